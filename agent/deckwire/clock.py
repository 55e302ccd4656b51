"""The clock of the samples, and how their times become wall-clock times."""

from __future__ import annotations

import time
from bisect import bisect_right
from typing import Protocol

from deckwire.limits import CAPTURE_REORDER_NS, CAPTURE_RUNS, CAPTURE_SILENCE_NS

_START_NS = 1_000_000_000_000
_MICROSECOND = 1_000


class Clock(Protocol):
    """The clock of the samples, in nanoseconds."""

    def now_ns(self) -> int:
        """The time now, by the samples' clock."""
        ...

    def wall_ns(self, kernel_ns: int) -> int:
        """A sample's time in nanoseconds since the epoch."""
        ...

    def even(self, start_ns: int, end_ns: int) -> bool:
        """Whether the samples' clock ran evenly between two of its times."""
        ...


class KernelClock:
    """CLOCK_MONOTONIC, which bpf_ktime_get_ns() reads, and its offset from the wall clock.

    `measure` takes the offset anew. So events show the new time after a step of the wall clock,
    while intervals are always differences of kernel times.
    """

    def __init__(self) -> None:
        self._offset_ns = 0
        self.measure()

    def measure(self) -> None:
        """Take the offset: read the wall clock between two readings of the other one."""
        best: int | None = None
        # The process may lose the CPU between two readings, so the quickest of three counts.
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
        """A kernel time in nanoseconds since the epoch."""
        return kernel_ns + self._offset_ns

    def even(self, start_ns: int, end_ns: int) -> bool:
        """Always: nothing sets CLOCK_MONOTONIC."""
        return True


class CaptureClock:
    """A capture's own clock: it follows the frames of deckies, and runs when their stamps do.

    Stamps jump: a clock is set, one frame is stamped wrongly, captures are joined. What the
    programs and the sweeps go by must not, so it is a count of its own from `_START_NS`, never 0:
    that is "not seen" there. Between two jumps it is the stamps' time, shifted by a constant; a
    jump ends such a run and takes next to no time. Frame times are got back by the run.

    A frame is in order from CAPTURE_REORDER_NS before the latest one to CAPTURE_SILENCE_NS after.
    """

    def __init__(self) -> None:
        self._now_ns = 0
        self._started = False
        self._latest_ns = 0
        """Latest stamp of this run."""
        self._earliest_ns = 0
        """An earlier stamp is not of this run: its time would be found in the one before."""
        # Kernel times at which the runs begin, and what is to be added to have stamps.
        self._starts = [0]
        self._offsets = [0]

    def now_ns(self) -> int:
        """The time of the latest frame in order."""
        return self._now_ns

    def wall_ns(self, kernel_ns: int) -> int:
        """The stamp of a frame, nanoseconds since the epoch, that was given this time."""
        if kernel_ns >= self._starts[-1]:
            return kernel_ns + self._offsets[-1]
        return kernel_ns + self._offsets[max(self._run(kernel_ns), 0)]

    def even(self, start_ns: int, end_ns: int) -> bool:
        """Whether both are of one run: else nobody knows how long it was between them.

        Two stamps of 0 are none: some tools write captures without times.
        """
        latest_ns = self._starts[-1]
        if start_ns >= latest_ns <= end_ns:
            offset_ns = self._offsets[-1]
        else:
            run = self._run(start_ns)
            if run < 0 or run != self._run(end_ns):
                return False
            offset_ns = self._offsets[run]
        return not self._started or bool(start_ns + offset_ns or end_ns + offset_ns)

    def ahead_ns(self, stamp_ns: int) -> int:
        """How far a stamp is after the latest one; negative before it, 0 for the first."""
        return stamp_ns - self._latest_ns if self._started else 0

    def in_order(self, stamp_ns: int) -> bool:
        """Whether a frame of this stamp goes on with the run."""
        if not self._started:
            return True
        earliest_ns = max(self._earliest_ns, self._latest_ns - CAPTURE_REORDER_NS)
        return earliest_ns <= stamp_ns <= self._latest_ns + CAPTURE_SILENCE_NS

    def advance(self, stamp_ns: int) -> int:
        """A decky's frame in order; its time for the kernel."""
        if not self._started:
            self._begin(stamp_ns, _START_NS)
            # Frames may be out of order at the beginning too.
            self._earliest_ns -= CAPTURE_REORDER_NS
            self._starts[-1] -= CAPTURE_REORDER_NS
        kernel_ns = stamp_ns - self._offsets[-1]
        self._now_ns = max(self._now_ns, kernel_ns)
        self._latest_ns = max(self._latest_ns, stamp_ns)
        return kernel_ns

    def jump(self, stamp_ns: int) -> int:
        """A decky's frame that is not in order begins another run; its time for the kernel."""
        self._begin(stamp_ns, self._now_ns + 1)
        return self.advance(stamp_ns)

    def pass_by(self, stamp_ns: int) -> None:
        """A foreign frame. Its time counts only until the first frame of a decky comes."""
        if not self._started:
            self._now_ns = max(self._now_ns, stamp_ns)

    def _begin(self, stamp_ns: int, kernel_ns: int) -> None:
        # Stamps are compared in whole microseconds: the shift must not change those.
        kernel_ns += (stamp_ns - kernel_ns) % _MICROSECOND
        if not self._started:
            self._started = True
            self._starts, self._offsets = [], []
            self._now_ns = kernel_ns
        self._starts.append(kernel_ns)
        self._offsets.append(stamp_ns - kernel_ns)
        self._latest_ns = self._earliest_ns = stamp_ns
        if len(self._starts) > CAPTURE_RUNS:
            del self._starts[: CAPTURE_RUNS // 2], self._offsets[: CAPTURE_RUNS // 2]

    def _run(self, kernel_ns: int) -> int:
        """Which run it is of; -1 of one that is not kept any more."""
        return bisect_right(self._starts, kernel_ns) - 1
