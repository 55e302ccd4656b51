"""What the operator reads about an output that fails: each failure once, and its end."""

from __future__ import annotations

import errno

import pytest

from deckwire.output.sinks.failures import Failures

FULL = OSError(errno.ENOSPC, "No space left on device")
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


class Clock:
    """Goes on only when a test moves it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures(clock: Clock) -> Failures:
    return Failures("tcp:logs:601", clock)


def test_a_failure_is_reported_with_what_to_do(failures: Failures) -> None:
    line = failures.failed("connect_error", REFUSED, "start it")
    assert line == "output tcp:logs:601: Connection refused; start it; its lines wait"


def test_the_same_failure_is_reported_once_and_another_too(failures: Failures) -> None:
    assert failures.failed("connect_error", REFUSED, "start it")
    assert failures.failed("connect_error", REFUSED, "start it") is None
    assert failures.failed("write_error", FULL, "free space")


def test_after_a_quiet_minute_it_is_reported_again(failures: Failures, clock: Clock) -> None:
    assert failures.failed("write_error", FULL, "free space")
    clock.now += 59
    assert failures.failed("write_error", FULL, "free space") is None
    clock.now += 61
    assert failures.failed("write_error", FULL, "free space")


def test_the_end_of_the_trouble_is_reported_once(failures: Failures) -> None:
    assert failures.worked() is None
    failures.failed("write_error", FULL, "free space")
    assert failures.worked() == "output tcp:logs:601: works again"
    assert failures.worked() is None


def test_a_failed_reopen_is_no_trouble_that_could_end(failures: Failures) -> None:
    line = failures.failed("reopen_error", FULL, "free space")
    assert line == "output tcp:logs:601: No space left on device; free space; not opened again"
    assert failures.worked() is None
