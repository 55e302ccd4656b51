"""From kernel time to wall-clock time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The clock of the samples, in nanoseconds."""

    def now_ns(self) -> int:
        """The samples' clock now."""
        ...

    def wall_ns(self, kernel_ns: int) -> int:
        """A sample's time as nanoseconds since the epoch."""
        ...


class KernelClock:
    """CLOCK_MONOTONIC, which bpf_ktime_get_ns() reads, and its distance from the wall clock.

    The distance is measured anew at each `measure`, so that events after a step of the wall
    clock tell the new time, while intervals are always differences of kernel time.
    """

    def __init__(self) -> None:
        self._offset_ns = 0
        self.measure()

    def measure(self) -> None:
        """Read both clocks: the wall clock between two readings of the other."""
        best = None
        for _ in range(3):
            before = time.monotonic_ns()
            wall = time.time_ns()
            after = time.monotonic_ns()
            if best is None or after - before < best:
                best = after - before
                self._offset_ns = wall - (before + after) // 2

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC now."""
        return time.monotonic_ns()

    def wall_ns(self, kernel_ns: int) -> int:
        """A kernel time as nanoseconds since the epoch."""
        return kernel_ns + self._offset_ns


class CaptureClock:
    """A capture's own clock: it stands at the latest frame, and is wall-clock time already."""

    def __init__(self) -> None:
        self._now_ns = 0

    def advance(self, time_ns: int) -> None:
        """A frame of this time is being replayed; the clock never goes back."""
        self._now_ns = max(self._now_ns, time_ns)

    def now_ns(self) -> int:
        """The time of the latest frame."""
        return self._now_ns

    def wall_ns(self, kernel_ns: int) -> int:
        """The same: frames are stamped with nanoseconds since the epoch."""
        return kernel_ns
