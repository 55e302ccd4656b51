"""What was lost, told seldom but completely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from deckwire.events.event import WARNING, Event

INTERVAL_S = 10.0

_NS = 1_000_000_000


class LossReport:
    """Makes `capture_loss` events of growing sums: at most one a cause in `interval_s` seconds.

    What a cause lost stays due until an output took the event that tells it.
    """

    def __init__(self, host: str, interval_s: float = INTERVAL_S) -> None:
        self._host = host
        self._interval_ns = round(interval_s * _NS)
        self._emitted: Counter[str] = Counter()
        self._emitted_ns: dict[str, int] = {}

    def due(self, sums: Mapping[str, int], now_ns: int, *, at_the_end: bool = False) -> list[Event]:
        """The events to offer at `now_ns`, given what each cause lost since the start.

        At the end nothing is held back: there is no later.
        """
        return [
            Event(
                name="capture_loss",
                time_ns=now_ns,
                host=self._host,
                parts=(("cause", cause), ("count", lost - self._emitted[cause])),
                severity=WARNING,
            )
            for cause, lost in sums.items()
            if lost > self._emitted[cause] and (at_the_end or not self._is_recent(cause, now_ns))
        ]

    def emitted(self, event: Event) -> None:
        """An output took this event of `due`."""
        fields = dict(event.fields)
        cause, count = fields["cause"], fields["count"]
        if isinstance(cause, str) and isinstance(count, int):
            self._emitted[cause] += count
            self._emitted_ns[cause] = event.time_ns

    def _is_recent(self, cause: str, now_ns: int) -> bool:
        told_ns = self._emitted_ns.get(cause)
        # A clock that was set back must not silence a cause for long.
        return told_ns is not None and abs(now_ns - told_ns) < self._interval_ns
