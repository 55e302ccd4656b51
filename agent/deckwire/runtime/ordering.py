"""Putting the samples of all CPUs into the order of their times, without timers.

The rings are drained in passes. A sample that the kernel stamped before a pass began is in its
ring, at the latest, when the next pass begins; so after each pass everything older than the start
of the one before it is complete and can go on. A sample is stamped some microseconds before it
stands in the ring: the margin covers that.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import Generic, TypeVar

T = TypeVar("T")

MARGIN_NS = 1_000_000
"""Longest time supposed between a sample's stamp and its place in the ring; 18 us were seen."""

_time = itemgetter(0)


class Ordering(Generic[T]):
    """Samples on their way into order. Holds what two passes brought: the rings bound it.

    A pass is: take `start_ns` by the samples' clock, drain the rings into add(), then
    release(start_ns).
    """

    def __init__(self, margin_ns: int = MARGIN_NS) -> None:
        self.late = 0
        """Items that came when newer ones had been released already; released out of order."""
        self._margin_ns = margin_ns
        self._held: list[tuple[int, T]] = []
        self._previous_start_ns: int | None = None
        self._watermark_ns = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, time_ns: int, item: T) -> None:
        """Takes one item; those of equal times keep the order in which they were added."""
        if time_ns < self._watermark_ns:
            self.late += 1
        self._held.append((time_ns, item))

    def release(self, start_ns: int) -> list[T]:
        """Ends the pass that began at `start_ns`: the items that no later pass can precede."""
        previous, self._previous_start_ns = self._previous_start_ns, start_ns
        if previous is None:
            return []
        self._watermark_ns = max(self._watermark_ns, previous - self._margin_ns)
        # Runs that are sorted already, one a CPU: timsort only merges them.
        self._held.sort(key=_time)
        end = bisect_left(self._held, self._watermark_ns, key=_time)
        released, self._held = self._held[:end], self._held[end:]
        return [item for _, item in released]

    def flush(self) -> list[T]:
        """All that is held, in order: at the end, when no pass follows."""
        self._held.sort(key=_time)
        released, self._held = self._held, []
        if released:
            self._watermark_ns = max(self._watermark_ns, released[-1][0])
        return [item for _, item in released]
