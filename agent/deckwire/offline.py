"""`deckwire replay`: captures in, events to stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deckwire.assembly import Parts, assemble, identifier, kernel_settings, open_outputs
from deckwire.captures import CaptureError, CaptureFile
from deckwire.clock import CaptureClock
from deckwire.config import Settings
from deckwire.deckies import DeckiesFile
from deckwire.events.capture import stats_event
from deckwire.failures import failing
from deckwire.kernel.loading import LoadRequest, load
from deckwire.replay import RING_BYTES, Replay

_FLUSH_S = 60.0
_PROGRESS_BYTES = 8_388_608
"""A bar for captures larger than this, if a person watches."""


def replay_files(settings: Settings, paths: tuple[str, ...]) -> int:
    """Replay captures one after another; 0, or 1 if one was broken or cut.

    Raises:
        UsageError: the settings cannot work on this host.
    """
    registry = settings.deckies
    if settings.deckies_file is not None:
        registry = DeckiesFile(settings.deckies_file, settings.deckies).read()
    # Frames run one after another on one CPU: its ring has their samples in order.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clock = CaptureClock()
    with failing():
        identify = identifier(settings)
        outputs = open_outputs(settings)
        loaded = load(
            LoadRequest(
                replay_clock=True, settings=kernel_settings(settings), ring_bytes=RING_BYTES
            )
        )
        parts = assemble(settings, loaded, registry, clock, outputs, identify)
    outputs.start()
    replay = Replay(loaded, parts.pipeline, parts.intake, clock)
    status = 0
    for path in paths:
        status |= _replay_one(replay, path)
    parts.pipeline.finish()
    _tell_stats(parts, replay, clock)
    outputs.close(_FLUSH_S)
    loaded.close()
    return status


def _replay_one(replay: Replay, path: str) -> int:
    try:
        with CaptureFile(path) as capture, _progress(path, capture.size) as progress:
            replay.run(capture, progress)
    except CaptureError as error:
        print(f"deckwire: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _tell_stats(parts: Parts, replay: Replay, clock: CaptureClock) -> None:
    sums = parts.stats.sums() | dict(sorted(replay.counts.items()))
    parts.teller.tell(stats_event(parts.host, clock.now_ns(), sums))


@contextmanager
def _progress(path: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for a large file on a terminal; else nothing."""
    console = Console(stderr=True)
    if size < _PROGRESS_BYTES or not console.is_terminal:
        yield lambda position: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(os.path.basename(path), total=size)
        yield lambda position: bar.update(task, completed=position)
