"""How many events a second an output takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from deckwire.errors import shown
from deckwire.events.event import WARNING

RATE_LIMIT = 1_000_000
"""Largest rate that can be set."""
_RESERVE = 0.5
"""Part of a second's events that only warnings may use."""


class EventRate:
    """A token bucket that holds one second's events. Warnings are the last to be refused."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._per_second = per_second
        self._clock = clock
        self._tokens = float(per_second)
        self._filled = clock()

    def take(self, severity: int) -> bool:
        """Whether an event of this severity may pass now; if so, it is counted."""
        now = self._clock()
        gained = (now - self._filled) * self._per_second
        self._tokens = min(float(self._per_second), self._tokens + gained)
        self._filled = now
        reserve = 0.0 if severity <= WARNING else self._per_second * _RESERVE
        if self._tokens < 1.0 + min(reserve, self._per_second - 1.0):
            return False
        self._tokens -= 1.0
        return True


def check_rate(text: str) -> int:
    """The number of events a second; ValueError for the user."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:20]) <= RATE_LIMIT:
        raise ValueError(
            f"max_events_per_second: {shown(text)}; use a whole number from 1 to {RATE_LIMIT}"
        )
    return int(text)
