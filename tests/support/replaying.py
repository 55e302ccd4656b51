"""Replays frames through the real programs and pipeline, in this process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from deckwire.captures import CaptureError, CaptureFile, Frame
from deckwire.clock import CaptureClock
from deckwire.config import Settings
from deckwire.deckies import Decky, Registry, parse_address
from deckwire.events.event import Event
from deckwire.kernel.loading import LoadRequest, load
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import Fanout
from deckwire.resilience.containment import Containment
from deckwire.runtime.assembly import Parts, assemble
from deckwire.runtime.feed import RING_BYTES, Replay
from deckwire.runtime.preparation import identifier, kernel_settings
from deckwire.runtime.redact_key import open_redactor
from tests.support.bpf_harness import ZEROED, zero
from tests.support.uncontained import Uncontained

SETTINGS = Settings(dedup_ttl=0.0, raw_fingerprints=True)


class _Collector(Fanout):
    """An output that keeps the events themselves."""

    def __init__(self) -> None:
        super().__init__(())
        self._form = JsonFormat()
        self.events: list[Event] = []

    def offer(self, event: Event) -> bool:
        self._form.line(event)
        self.events.append(event)
        return True


class ReplayLab:
    """The programs, loaded once; each replay starts from empty tables."""

    def __init__(self, **request: object) -> None:
        self._affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._affinity)})
        settings = kernel_settings(replace(SETTINGS, dedup_ttl=0.0))
        self.loaded = load(
            LoadRequest(replay_clock=True, settings=settings, ring_bytes=RING_BYTES, **request)  # type: ignore[arg-type]
        )
        self.identify = identifier(SETTINGS)
        self.last: Parts | None = None
        self.containment: Containment = Uncontained()
        """A test of contained exceptions replaces it."""
        self.replay: Replay | None = None
        self.scans = False
        """Whether scans are reported. Most tests are about connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loaded.close()
        os.sched_setaffinity(0, self._affinity)

    def capture(
        self, path: Path, deckies: Iterable[str | Decky], settings: Settings = SETTINGS
    ) -> list[Event]:
        """The events of a capture file, without capture_stats."""
        with CaptureFile(path) as capture:
            return self._run(capture, deckies, settings)

    def frames(
        self, frames: Iterable[Frame], deckies: Iterable[str | Decky], settings: Settings = SETTINGS
    ) -> list[Event]:
        """The events of frames made by a test."""
        return self._run(frames, deckies, settings)

    def _run(
        self, frames: Iterable[Frame], deckies: Iterable[str | Decky], settings: Settings
    ) -> list[Event]:
        self.clear()
        if not self.scans:
            settings = replace(settings, scan_targets=0)
        registry = Registry(
            one if isinstance(one, Decky) else Decky(f"d-{n}", parse_address(one))
            for n, one in enumerate(deckies)
        )
        clock = CaptureClock()
        collector = _Collector()
        parts = assemble(
            *(settings, self.loaded, registry, clock, collector, self.identify),
            self.containment,
            redactor=open_redactor(settings),
        )
        self.last = parts
        self.replay = replay = Replay(
            self.loaded, parts.pipeline, parts.intake, parts.fragments, clock, self.containment
        )
        with suppress(CaptureError):
            replay.run_frames(frames)
        parts.pipeline.finish()
        return collector.events

    def clear(self) -> None:
        """Empty the tables, so that a replay starts anew."""
        for name in (
            *("deckies4", "deckies6", "other_half_open"),
            *("flows", "midstream_flows"),
        ):
            table = self.loaded.maps[name]
            for key, _ in list(table.items()):
                table.delete(key)
        for name in ZEROED:
            zero(self.loaded.maps[name])
        counters = self.loaded.maps["counters"]
        counters.update(bytes(counters.key_size), bytes(counters.value_size))
