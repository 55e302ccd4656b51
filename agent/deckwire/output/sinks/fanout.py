"""Every event to every output."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from deckwire.events.event import Event
from deckwire.output.sinks.sink import Counters, Sink


class Format(Protocol):
    """How an event becomes a line."""

    def line(self, event: Event) -> bytes:
        """The event without a newline, in at most LINE_BYTES bytes."""
        ...


class Fanout:
    """Formats an event once and offers it to all sinks; events offered = told + refused.

    Events may be held back and formatted together, which takes a third less time than one after
    each sample: the two kinds of work push each other out of the processor's caches.
    """

    def __init__(self, form: Format, sinks: Sequence[Sink]) -> None:
        self._form = form
        self._sinks = tuple(sinks)
        self._held: deque[Event] = deque()
        self._room = 0
        """Events that can be held: so many lines one sink at least is sure to take."""
        self.end_sent = 0
        """Events that at least one sink's queue took, or will."""
        self.refused = 0
        """Events that none took."""

    def start(self) -> None:
        """Start the sinks' threads."""
        for sink in self._sinks:
            sink.start()

    def offer(self, event: Event) -> bool:
        """Whether at least one sink took the event: then it was told. Never blocks."""
        if self._room:
            self._room -= 1
            self._held.append(event)
            self.end_sent += 1
            return True
        self.flush()
        line = self._form.line(event)
        taken = False
        for sink in self._sinks:
            taken = sink.offer(line) or taken
        if taken:
            self.end_sent += 1
        else:
            self.refused += 1
        return taken

    def hold(self) -> None:
        """Hold events back from now until `flush`, as many as the sinks have room for."""
        # Only the caller's thread puts lines into queues: room does not become less meanwhile.
        self._room = max((sink.room for sink in self._sinks), default=0) - len(self._held)

    def flush(self) -> None:
        """Format what is held and offer it to all sinks.

        Raises what the format raises: without the event it was about, the rest is held still.
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
        """What SIGHUP asks for: files and connections are opened again."""
        for sink in self._sinks:
            sink.reopen()

    def close(self, timeout: float) -> None:
        """Flush all sinks side by side, within `timeout` seconds together."""
        self.flush()
        deadline = time.monotonic() + timeout
        for sink in self._sinks:
            sink.finish()
        for sink in self._sinks:
            sink.close(max(0.0, deadline - time.monotonic()))

    def losses(self) -> dict[str, int]:
        """Lines lost since the start by cause, such as ``tcp_queue_full``: what a poller sums up.

        A line that one output lost and another took counts here, though its event was told.
        """
        lost: Counter[str] = Counter()
        for sink in self._sinks:
            for cause, lines in sink.counters().dropped.items():
                lost[f"{sink.scheme}_{cause}"] += lines
        return dict(lost)

    def counters(self) -> list[tuple[str, Counters]]:
        """Each sink's name and counters."""
        return [(sink.name, sink.counters()) for sink in self._sinks]
