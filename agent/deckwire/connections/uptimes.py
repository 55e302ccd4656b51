"""How long the source of SYN packets has been up, by their TCP timestamps.

Systems of today add a random number for each pair of addresses, which conceals it. So a clock is
believed only if SYN packets to two destinations show the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from deckwire.limits import UPTIME_SOURCES, UPTIME_STAMPS
from deckwire.resilience.bounded import Bounded

_MASK = 0xFFFF_FFFF
_NS = 1_000_000_000
_RATES = (1_000, 500, 250, 200, 100, 10, 2)
"""Ticks a second that systems use."""
_LEAST_STAMPS = 3
_LEAST_NS = _NS
"""Less time between stamps says too little of the rate."""
_MOST_NS = 600 * _NS
_LEAST_TICKS = 10
_JITTER_S = 0.05
"""Delays between the sender's clock and its SYN at the interface."""
_DEVIATION = 0.02


class Uptime(NamedTuple):
    """A timestamp clock that began with its host."""

    seconds: int
    """Modulo the range of the clock: 49 days at 1,000 Hz."""
    rate: int
    """Ticks a second."""


class _Stamp(NamedTuple):
    time_ns: int
    value: int
    destination: bytes


def _always(_start_ns: int, _end_ns: int) -> bool:
    return True


class Uptimes:
    """Keeps the last stamps of each source. For one thread.

    `even` says whether the samples' clock ran evenly between two of its times.
    """

    def __init__(self, even: Callable[[int, int], bool] = _always) -> None:
        self._even = even
        self._latest_ns = 0
        self._sources: Bounded[bytes, tuple[_Stamp, ...]] = Bounded(UPTIME_SOURCES)
        """Tuples, because most have one stamp, and the smallest deque has room for 64."""

    def take(self, source: bytes, destination: bytes, time_ns: int, value: int) -> Uptime | None:
        """Take the timestamp of one SYN packet; None if the stamps so far show no uptime."""
        if not value:
            return None
        if not self._even(self._latest_ns, time_ns):
            self._sources.clear()
        self._latest_ns = time_ns
        stamp = _Stamp(time_ns, value, destination)
        before = self._sources.get(source)
        if before is None:
            self._sources.put(source, (stamp,))
            return None
        while before and not 0 <= time_ns - before[0].time_ns <= _MOST_NS:
            before = before[1:]
        stamps = (*before[1 - UPTIME_STAMPS :], stamp)
        self._sources.put(source, stamps)
        return _uptime(stamps)


def _uptime(stamps: Sequence[_Stamp]) -> Uptime | None:
    first, last = stamps[0], stamps[-1]
    elapsed_ns = last.time_ns - first.time_ns
    ticks = (last.value - first.value) & _MASK
    if (
        len(stamps) < _LEAST_STAMPS
        or elapsed_ns < _LEAST_NS
        or ticks < _LEAST_TICKS
        or len({one.destination for one in stamps}) < 2
    ):
        return None
    seen = ticks * _NS / elapsed_ns
    rate = min(_RATES, key=lambda one: abs(seen / one - 1))
    for one in stamps:
        expected = (one.time_ns - first.time_ns) / _NS * rate
        if abs(((one.value - first.value) & _MASK) - expected) > (
            expected * _DEVIATION + rate * _JITTER_S + 1
        ):
            return None
    return Uptime(last.value // rate, rate)
