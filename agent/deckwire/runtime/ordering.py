"""Sorts the samples of all CPUs by time, without timers.

The rings are drained in passes. A sample that was stamped before a pass began is in its ring when
the next pass begins. So after each pass, all samples from before the start of the previous pass are
there and can be released. A sample is stamped some microseconds before it is in the ring. The
margin covers that.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import Generic, TypeVar

T = TypeVar("T")

MARGIN_NS = 1_000_000
"""Longest time assumed from the stamp of a sample until it is in the ring; 18 us were measured."""

_time = itemgetter(0)


class Ordering(Generic[T]):
    """Samples that wait to be sorted: those of two passes at most, so the rings bound them.

    A pass is: take `start_ns` by the samples' clock, drain the rings, add() what was in them, then
    release(start_ns).
    """

    def __init__(self, margin_ns: int = MARGIN_NS) -> None:
        self.late = 0
        """Items that came after newer ones were released, and so are released out of order."""
        self._margin_ns = margin_ns
        self._held: list[tuple[int, T]] = []
        self._previous_start_ns: int | None = None
        self._watermark_ns = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, items: list[tuple[int, T]]) -> None:
        """Add items with their times. Those of equal times keep the order in which they come."""
        watermark_ns = self._watermark_ns
        # Hardly any is late, so one look at the earliest is cheaper than one at each.
        if items and min(map(_time, items)) < watermark_ns:
            self.late += sum(time_ns < watermark_ns for time_ns, _ in items)
        self._held += items

    def release(self, start_ns: int) -> list[T]:
        """End the pass that began at `start_ns`; return the items that no later one can precede."""
        previous, self._previous_start_ns = self._previous_start_ns, start_ns
        if previous is None:
            return []
        self._watermark_ns = max(self._watermark_ns, previous - self._margin_ns)
        # The samples of each CPU are sorted already, and timsort only merges such runs.
        self._held.sort(key=_time)
        end = bisect_left(self._held, self._watermark_ns, key=_time)
        released, self._held = self._held[:end], self._held[end:]
        return [item for _, item in released]

    def flush(self) -> list[T]:
        """Return all items in order, at the end, when no pass follows."""
        self._held.sort(key=_time)
        released, self._held = self._held, []
        if released:
            self._watermark_ns = max(self._watermark_ns, released[-1][0])
        return [item for _, item in released]
