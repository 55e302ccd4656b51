"""capture_loss: few events that together report every loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from deckwire.events.event import WARNING, Event

INTERVAL_S = 10.0
"""Seconds between two events of one cause."""

_NS = 1_000_000_000


class LossReport:
    """Makes `capture_loss` events from growing sums: one for a cause in `interval_s` seconds.

    A loss stays due while the outputs that take its event have no room.
    """

    def __init__(self, host: str, interval_s: float = INTERVAL_S) -> None:
        """`host` is the HOSTNAME of the events."""
        self._host = host
        self._interval_ns = round(interval_s * _NS)
        self._emitted: Counter[str] = Counter()
        """The part of each sum that events have reported."""
        self._emitted_ns: dict[str, int] = {}
        """The time of the last event of each cause."""

    def due(self, sums: Mapping[str, int], now_ns: int, *, at_the_end: bool = False) -> list[Event]:
        """The events to emit at `now_ns`; `sums` are the losses since the start, by cause.

        At the end no event is kept back, because none can follow.
        """
        return [
            Event(
                name="capture_loss",
                time_ns=now_ns,
                host=self._host,
                parts=(("cause", cause), ("count", lost - self._emitted[cause])),
                severity=WARNING,
                subject=cause,
            )
            for cause, lost in sums.items()
            if lost > self._emitted[cause] and (at_the_end or not self._is_recent(cause, now_ns))
        ]

    def emitted(self, event: Event) -> None:
        """Remember that an output accepted this event of `due`."""
        fields = dict(event.fields)
        cause, count = fields["cause"], fields["count"]
        if isinstance(cause, str) and isinstance(count, int):
            self._emitted[cause] += count
            self._emitted_ns[cause] = event.time_ns

    def _is_recent(self, cause: str, now_ns: int) -> bool:
        emitted_ns = self._emitted_ns.get(cause)
        # A clock that was set back must not silence a cause for long.
        return emitted_ns is not None and abs(now_ns - emitted_ns) < self._interval_ns
