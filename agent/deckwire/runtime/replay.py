"""`deckwire replay`: reads capture files and emits their events."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deckwire.captures import CaptureError, CaptureFile
from deckwire.clock import CaptureClock
from deckwire.config import Settings
from deckwire.errors import PassingError, UsageError, plain
from deckwire.events.capture import stats_events
from deckwire.events.event import Event
from deckwire.kernel.loading import LoadRequest, load
from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.fanout import Fanout
from deckwire.resilience.containment import Where
from deckwire.resilience.report import report
from deckwire.runtime.assembly import Parts, assemble
from deckwire.runtime.failures import failing
from deckwire.runtime.feed import RING_BYTES, Jump, Replay
from deckwire.runtime.preparation import (
    deckies_file,
    identifier,
    imported_later,
    kernel_settings,
    open_outputs,
)
from deckwire.runtime.redact_key import open_redactor

_FLUSH_S = 2.0
"""Seconds that failing outputs have at most at the end. Slow ones were waited for before."""
_PROGRESS_BYTES = 8_388_608
"""A capture larger than this shows a progress bar on a terminal."""
_PAUSE_S = 0.005


class ReaderGoneError(BaseException):
    """Nobody reads the events any more. It is no Exception, because it must end the replay."""


class PatientFanout(Fanout):
    """Waits for a slow reader, so that a replay loses no line. Live capture must never wait."""

    _unchecked = 0

    def offer(self, event: Event) -> bool:
        """Offer an event as Fanout does, but wait for room.

        Raises:
            ReaderGoneError: the reader of stdout has closed it.
        """
        if self._unchecked == SINK_QUEUE // 2:
            self.wait(SINK_QUEUE // 2)
            self._unchecked = 0
        self._unchecked += 1
        return super().offer(event)

    def wait(self, queued: int) -> None:
        """Return when no output has more lines waiting, or when one fails (a full disk)."""
        while any(counters.queued > queued for _, counters in self.counters()):
            if any(counters.errors for _, counters in self.counters()):
                break
            time.sleep(_PAUSE_S)
        if self.losses().get("stdout_closed"):
            raise ReaderGoneError


def replay_files(settings: Settings, paths: tuple[str, ...]) -> int:
    """Replay captures one after another; return 0, 1 if anything was lost, or 2 if one is broken.

    Raises:
        UsageError: the settings cannot work on this host, or a file cannot be read.
    """
    for path in paths:
        _need_readable(path)
    registry = settings.deckies
    file = deckies_file(settings)
    if file is not None:
        registry = file.read()
        for note in file.notes:
            report(note)
    # Frames run one after another on one CPU, so its ring has their samples in order.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clock = CaptureClock()
    with failing():
        imported_later()
        identify = identifier(settings)
        redactor = open_redactor(settings)
        outputs = PatientFanout(open_outputs(settings))
        loaded = load(
            LoadRequest(
                replay_clock=True,
                settings=kernel_settings(settings),
                ring_bytes=RING_BYTES,
            )
        )
        parts = assemble(settings, loaded, registry, clock, outputs, identify, redactor=redactor)
    replay = Replay(loaded, parts.pipeline, parts.intake, parts.fragments, clock, parts.containment)
    outputs.start()
    try:
        status = _replay_all(paths, replay, parts, outputs, clock)
        outputs.wait(0)
    except ReaderGoneError:
        status = PassingError.status
    with parts.containment.during(Where.OUTPUT):
        outputs.close(_FLUSH_S)
    loaded.close()
    if parts.containment.counts:
        status = max(status, PassingError.status)
    for cause, lines in sorted(outputs.losses().items()):
        # A reader that stops early, as `head` does, is no loss.
        if cause not in ("stdout_closed", "stdout_in_doubt"):
            report(f"lost at the outputs: {lines} lines, {cause}")
            status = max(status, PassingError.status)
    return status


def _replay_all(
    paths: tuple[str, ...],
    replay: Replay,
    parts: Parts,
    outputs: PatientFanout,
    clock: CaptureClock,
) -> int:
    status = 0
    for path in paths:
        status = max(status, _replay_one(replay, path))
    contained = parts.containment.during
    with contained(Where.SHUTDOWN):
        parts.pipeline.finish("open")
    # Wait, because the counters of lines must not depend on the speed of the reader.
    outputs.wait(0)
    with contained(Where.STATS):
        for event in stats_events(parts.host, clock.now_ns(), sums_of(replay, parts)):
            parts.emitter.emit(event)
    return status


def sums_of(replay: Replay, parts: Parts) -> dict[str, int]:
    """Every counter of a replay by its name in capture_stats."""
    return parts.stats.sums() | dict(sorted(replay.counts.items()))


def _replay_one(replay: Replay, path: str) -> int:
    jumps_before = _jumps(replay)
    status = 0
    try:
        with CaptureFile(path) as capture, _progress(path, capture.size) as progress:
            replay.run(capture, progress)
    except CaptureError as error:
        report(str(error))
        status = UsageError.status
    if replay.first_jump is not None:
        report(_jump_warning(path, replay.first_jump, _jumps(replay) - jumps_before))
    return status


def _jumps(replay: Replay) -> int:
    return replay.counts["time_jumps_forward"] + replay.counts["time_jumps_back"]


def _jump_warning(path: str, first: Jump, jumps: int) -> str:
    distance = f"{abs(first.ahead_ns) / 1e9:.6f} s"
    direction = "later" if first.ahead_ns > 0 else "earlier"
    return (
        f"{plain(path)}: frame {first.frame} is stamped {distance} {direction} than the frames"
        f" before it (time jumps in this capture: {jumps}): durations across a jump are unknown and"
        " left out; if captures were joined, replay them one by one"
    )


def _need_readable(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{plain(path)}: {reason}") from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"{plain(path)}: a directory, not a capture")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{plain(path)}: may not be read")


@contextmanager
def _progress(path: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr for a large file on a terminal, else nothing."""
    console = Console(stderr=True)
    if size < _PROGRESS_BYTES or not console.is_terminal:
        yield lambda position: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(os.path.basename(path), total=size)
        yield lambda position: bar.update(task, completed=position)
