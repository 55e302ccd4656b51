"""Kernel time and wall-clock time."""

from __future__ import annotations

import time

import pytest

from deckwire.clock import CaptureClock, KernelClock
from deckwire.limits import CAPTURE_REORDER_NS, CAPTURE_RUNS, CAPTURE_SILENCE_NS

SECOND = 1_000_000_000


def test_kernel_time_becomes_wall_time() -> None:
    clock = KernelClock()
    before = time.time_ns()
    wall = clock.wall_ns(clock.now_ns())
    after = time.time_ns()
    # A step of the wall clock between the two readings is not this test's concern.
    assert before - 1_000_000_000 < wall < after + 1_000_000_000


def test_intervals_are_those_of_the_kernel() -> None:
    clock = KernelClock()
    assert clock.wall_ns(5_000) - clock.wall_ns(2_000) == 3_000


def test_a_step_of_the_wall_clock_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = KernelClock()
    before = clock.wall_ns(0)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)
    assert clock.wall_ns(0) == before
    clock.measure()
    assert abs(clock.wall_ns(0) - before - 3_600_000_000_000) < 1_000_000_000


def test_the_quickest_of_three_readings_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may lose the CPU between two readings: 500, 4 and 900 ns were lost here."""
    ticks = iter([0, 500, 1_000, 1_004, 2_000, 2_900])
    walls = iter([10_000, 11_002, 19_999])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(ticks))
    monkeypatch.setattr(time, "time_ns", lambda: next(walls))
    assert KernelClock().wall_ns(0) == 11_002 - 1_002


STAMP_NS = 1_790_000_000_123_456_789
DAY_NS = 86_400 * SECOND


def test_a_captures_clock_never_goes_back() -> None:
    clock = CaptureClock()
    times = [clock.advance(STAMP_NS + more) for more in (5, 9, 7)]
    assert clock.now_ns() == times[1]
    assert [clock.wall_ns(time_ns) - STAMP_NS for time_ns in times] == [5, 9, 7]
    assert (times[1] - times[0], times[2] - times[0]) == (4, 2)


@pytest.mark.parametrize("stamp_ns", [0, 1, STAMP_NS, 2**63 - 1])
def test_it_is_never_zero_and_stays_a_kernels_time(stamp_ns: int) -> None:
    clock = CaptureClock()
    assert clock.in_order(stamp_ns)
    time_ns = clock.advance(stamp_ns)
    assert 0 < time_ns < 2**62
    assert clock.wall_ns(time_ns) == stamp_ns


def test_before_a_deckys_frame_it_stands_at_the_latest_one() -> None:
    clock = CaptureClock()
    assert clock.wall_ns(clock.now_ns()) == 0
    for stamp_ns in (STAMP_NS + 2, STAMP_NS):
        clock.pass_by(stamp_ns)
    assert clock.wall_ns(clock.now_ns()) == STAMP_NS + 2
    clock.advance(STAMP_NS + 1)
    clock.pass_by(STAMP_NS + DAY_NS)
    assert clock.wall_ns(clock.now_ns()) == STAMP_NS + 1


@pytest.mark.parametrize(
    ("ahead_ns", "in_order"),
    [
        (-CAPTURE_REORDER_NS, True),
        (-CAPTURE_REORDER_NS - 1, False),
        (CAPTURE_SILENCE_NS, True),
        (CAPTURE_SILENCE_NS + 1, False),
    ],
)
def test_what_is_in_order(ahead_ns: int, in_order: bool) -> None:
    clock = CaptureClock()
    clock.advance(STAMP_NS)
    assert clock.ahead_ns(STAMP_NS + ahead_ns) == ahead_ns
    assert clock.in_order(STAMP_NS + ahead_ns) is in_order


@pytest.mark.parametrize("jump_ns", [-DAY_NS, 400 * DAY_NS])
def test_a_jump_takes_no_time_and_keeps_every_stamp(jump_ns: int) -> None:
    clock = CaptureClock()
    stamps = [STAMP_NS, STAMP_NS + 500, STAMP_NS + jump_ns, STAMP_NS + jump_ns + 1_501]
    times = [clock.advance(stamps[0]), clock.advance(stamps[1]), clock.jump(stamps[2])]
    times.append(clock.advance(stamps[3]))
    assert [clock.wall_ns(time_ns) for time_ns in times] == stamps
    assert times[1] < times[2] <= times[1] + 1_000
    assert times[3] - times[2] == 1_501
    # Round trips are counted between whole microseconds.
    assert [time_ns % 1_000 for time_ns in times] == [stamp % 1_000 for stamp in stamps]
    assert clock.even(times[0], times[1])
    assert clock.even(times[2], times[3])
    assert not clock.even(times[1], times[2])


def test_after_a_jump_an_earlier_stamp_is_another_one() -> None:
    clock = CaptureClock()
    clock.advance(STAMP_NS)
    clock.jump(STAMP_NS - DAY_NS)
    assert not clock.in_order(STAMP_NS - DAY_NS - 1)
    assert clock.in_order(STAMP_NS - DAY_NS)


def test_old_jumps_are_evicted() -> None:
    clock = CaptureClock()
    first = clock.advance(STAMP_NS)
    for number in range(CAPTURE_RUNS):
        last = clock.jump(STAMP_NS - (number % 2) * DAY_NS)
    assert clock.wall_ns(last) == STAMP_NS - DAY_NS
    assert clock.even(last, last)
    assert not clock.even(first, first)
    assert abs(clock.wall_ns(first) - STAMP_NS) <= DAY_NS + SECOND


def test_two_stamps_of_zero_give_no_time() -> None:
    clock = CaptureClock()
    first = clock.advance(0)
    second = clock.advance(0)
    assert not clock.even(first, second)
    assert clock.even(first, clock.advance(5))


def test_the_kernels_clock_is_always_even() -> None:
    assert KernelClock().even(2, 1)
