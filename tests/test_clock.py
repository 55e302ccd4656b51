"""Kernel time and wall-clock time."""

from __future__ import annotations

import time

import pytest

from deckwire.clock import CaptureClock, KernelClock


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


def test_a_captures_clock_never_goes_back() -> None:
    clock = CaptureClock()
    assert clock.now_ns() == 0
    for time_ns in (5, 9, 7):
        clock.advance(time_ns)
    assert clock.now_ns() == 9
    assert clock.wall_ns(7) == 7
