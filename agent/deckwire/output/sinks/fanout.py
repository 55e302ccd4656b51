"""Every event to every output."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from deckwire.events.event import Event
from deckwire.output.sinks.sink import Sink, SinkCounters


class Format(Protocol):
    """How an event becomes a line."""

    def line(self, event: Event) -> bytes:
        """The event without a newline, in at most LINE_BYTES bytes."""
        ...


class Fanout:
    """Formats each event once and offers the line to all sinks.

    It can hold events back and format them together. That takes a third less time than formatting
    one event after each sample, because both kinds of work evict each other from the CPU's caches.
    """

    def __init__(self, form: Format, sinks: Sequence[Sink]) -> None:
        self._form = form
        self._sinks = tuple(sinks)
        self._held: deque[Event] = deque()
        self._room = 0
        """Events that can still be held: at least one sink is sure to take them."""

    def start(self) -> None:
        """Start the sinks' threads."""
        for sink in self._sinks:
            sink.start()

    def offer(self, event: Event) -> bool:
        """Offer an event to all sinks; False if none took it. Never blocks."""
        if self._room:
            self._room -= 1
            self._held.append(event)
            return True
        self.flush()
        line = self._form.line(event)
        taken = False
        for sink in self._sinks:
            taken = sink.offer(line) or taken
        return taken

    def hold(self) -> None:
        """Hold events back from now until `flush`, as many as a sink has room for."""
        # Only the caller's thread puts lines into queues, so the room cannot shrink meanwhile.
        self._room = max((sink.room for sink in self._sinks), default=0) - len(self._held)

    def flush(self) -> None:
        """Format the events that are held and offer them to all sinks.

        Raises what the format raises. The event that caused it is lost; those after it stay held.
        """
        self._room = 0
        if not self._held:
            return
        lines: list[bytes] = []
        try:
            while self._held:
                lines.append(self._form.line(self._held.popleft()))
        finally:
            for sink in self._sinks:
                sink.offer_all(lines)

    def reopen(self) -> None:
        """Open files and connections again, as SIGHUP asks for."""
        for sink in self._sinks:
            sink.reopen()

    def close(self, timeout: float) -> None:
        """Flush all sinks at the same time, within `timeout` seconds altogether."""
        self.flush()
        deadline = time.monotonic() + timeout
        for sink in self._sinks:
            sink.finish()
        for sink in self._sinks:
            sink.close(max(0.0, deadline - time.monotonic()))

    def sums(self) -> dict[str, int]:
        """All counters of the sinks by kind of output, such as ``tcp_written``.

        Sinks of one kind are added up. offered = written + queued + the sum of all `losses`.
        """
        sums: Counter[str] = Counter()
        for sink in self._sinks:
            counters, kind = sink.counters(), sink.scheme
            sums[f"{kind}_offered"] += counters.offered
            sums[f"{kind}_written"] += counters.written
            sums[f"{kind}_queued"] += counters.queued
            for failure, calls in sorted(counters.errors.items()):
                sums[f"{kind}_failed_{failure.removesuffix('_error')}"] += calls
            for name, lines in sink.more_sums().items():
                sums[f"{kind}_{name}"] += lines
        return dict(sums) | dict(sorted(self.losses().items()))

    def losses(self) -> dict[str, int]:
        """Lines lost since the start by cause, such as ``tcp_queue_full``.

        A line that one output lost and another one took counts here, though its event was emitted.
        """
        lost: Counter[str] = Counter()
        for sink in self._sinks:
            for cause, lines in sink.counters().dropped.items():
                lost[f"{sink.scheme}_{cause}"] += lines
        return dict(lost)

    def failures(self) -> dict[str, str]:
        """Each sink's name, and why it does not work now; "" if it works."""
        return {sink.name: sink.failure() for sink in self._sinks}

    def counters(self) -> list[tuple[str, SinkCounters]]:
        """Each sink's name and counters."""
        return [(sink.name, sink.counters()) for sink in self._sinks]
