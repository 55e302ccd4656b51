"""Every event to every output."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from deckwire.event import Event
from deckwire.sinks.sink import Counters, Sink


class Format(Protocol):
    """How an event becomes a line."""

    def line(self, event: Event) -> bytes:
        """The event without a newline, in at most LINE_BYTES bytes."""
        ...


class Fanout:
    """Formats an event once and offers it to all sinks; events offered = told + refused."""

    def __init__(self, form: Format, sinks: Sequence[Sink]) -> None:
        self._form = form
        self._sinks = tuple(sinks)
        self.told = 0
        """Events that at least one sink's queue took."""
        self.refused = 0
        """Events that none took."""

    def start(self) -> None:
        """Start the sinks' threads."""
        for sink in self._sinks:
            sink.start()

    def offer(self, event: Event) -> bool:
        """Whether at least one sink took the event: then it was told. Never blocks."""
        line = self._form.line(event)
        taken = False
        for sink in self._sinks:
            taken = sink.offer(line) or taken
        if taken:
            self.told += 1
        else:
            self.refused += 1
        return taken

    def reopen(self) -> None:
        """What SIGHUP asks for: files and connections are opened again."""
        for sink in self._sinks:
            sink.reopen()

    def close(self, timeout: float) -> None:
        """Flush all sinks side by side, within `timeout` seconds together."""
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
