"""The courier carries each line until it is acknowledged, in order, over every kind of failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from deckwire.output.spool.courier import Courier
from deckwire.output.spool.receiver import BusyError, RefusedError
from deckwire.output.spool.spool import Spool, SpooledLine
from tests.support.rsyslog_server import wait_until

LINES = [b"line %d" % number for number in range(100)]


class Receiver:
    """A receiver in memory that fails as it is asked to."""

    def __init__(self) -> None:
        self.window = 10
        self.got: list[bytes] = []
        self.connected = False
        self.connects = 0
        self.failures: list[Exception] = []
        """Raised by the next sends."""
        self.silent = False
        """It takes lines and acknowledges none."""
        self._through = 0

    def connect(self) -> None:
        self.connects += not self.connected
        self.connected = True

    def send(self, lines: Sequence[SpooledLine]) -> None:
        assert self.connected
        assert len(lines) <= self.window
        self.got += [line.text for line in lines]
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, RefusedError):
                failure.through = lines[-1].number
            raise failure
        self._through = lines[-1].number

    def acknowledged(self, seconds: float) -> int:
        return 0 if self.silent else self._through

    def close(self) -> None:
        self.connected = False
        self._through = 0


class Case:
    def __init__(self, folder: Path) -> None:
        self.receiver = Receiver()
        self.spool = Spool(str(folder / "one.sqlite"), 10_000_000, print)
        self.refused: list[int] = []
        self.spool_failures: list[OSError | None] = []
        self.courier = Courier(
            "test", self.spool, self.receiver, self.refused.append, self.spool_failures.append
        )

    def append(self, lines: list[bytes]) -> None:
        assert self.spool.append(lines) == len(lines)
        self.courier.wake()

    def wait_empty(self) -> None:
        wait_until(lambda: not self.spool.lines, "all lines are acknowledged")

    def end(self) -> None:
        self.courier.end(never())
        self.spool.close()


def never() -> Callable[[float], bool]:
    pause = threading.Event()
    return lambda seconds: bool(pause.wait(seconds))


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.end()


def test_lines_arrive_in_order_and_are_removed(case: Case) -> None:
    case.courier.start()
    for start in range(0, 100, 7):
        case.append(LINES[start : start + 7])
    case.wait_empty()
    assert case.receiver.got == LINES
    assert case.receiver.connects == 1
    wait_until(lambda: case.courier.sums.acknowledged == 100, "all are counted")
    assert case.courier.sums.sent_again == 0


def test_lines_from_before_the_start_are_carried(case: Case) -> None:
    case.append(LINES)
    case.courier.start()
    case.wait_empty()
    assert case.receiver.got == LINES


def test_what_was_not_acknowledged_is_sent_again(
    case: Case, capfd: pytest.CaptureFixture[str]
) -> None:
    case.receiver.failures = [ConnectionResetError("is gone"), ConnectionResetError("is gone")]
    case.append(LINES[:10])
    case.courier.start()
    case.wait_empty()
    assert case.receiver.got == LINES[:10] * 3
    assert case.receiver.connects == 3
    wait_until(lambda: case.courier.sums.acknowledged == 10, "all are counted")
    assert (case.courier.sums.sent_again, case.courier.sums.failed) == (20, 2)
    said = capfd.readouterr().err
    assert said == (
        "deckwire: output test: is gone; start the receiver, or correct the output;"
        " its lines wait\n"
        "deckwire: output test: works again\n"
    )


def test_a_silent_receiver_gets_no_more_than_its_window(case: Case) -> None:
    case.receiver.silent = True
    case.append(LINES)
    case.courier.start()
    wait_until(lambda: len(case.receiver.got) == 10, "the window is full")
    case.receiver.silent = False
    case.wait_empty()
    assert case.receiver.got == LINES


def test_refused_lines_are_set_aside_and_the_rest_goes_on(case: Case) -> None:
    case.receiver.failures = [RefusedError(0, "answers 400")]
    case.append(LINES)
    case.courier.start()
    case.wait_empty()
    assert case.receiver.got == LINES
    wait_until(lambda: case.courier.sums.acknowledged == 90, "all are counted")
    assert case.refused == [10]
    assert case.courier.sums.refused == 10


def test_a_busy_receiver_is_left_alone_until_it_is_asked_again(case: Case) -> None:
    case.receiver.failures = [BusyError("answers 429", 10_000.0)]
    case.append(LINES[:10])
    case.courier.start()
    wait_until(lambda: case.courier.sums.failed == 1, "it was asked once")
    case.append(LINES[10:20])
    assert case.receiver.got == LINES[:10]
    case.courier.retry()
    case.wait_empty()
    assert case.receiver.got == LINES[:10] + LINES[:20]


def test_the_end_delivers_what_waits(case: Case) -> None:
    case.append(LINES)
    case.courier.start()
    case.courier.end(never())
    assert case.receiver.got == LINES
    assert not case.receiver.connected


def test_the_end_does_not_wait_for_a_receiver_that_is_away(case: Case) -> None:
    case.receiver.failures = [ConnectionRefusedError("is away")] * 1_000
    case.append(LINES)
    case.courier.start()
    case.courier.end(never())
    assert case.spool.lines == 100


def test_a_failure_of_the_spool_is_not_one_of_the_receiver(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is passed on, and so is the end of the trouble. The lines are delivered then."""
    case.append(LINES[:1])
    case.spool.close()
    path, kept = tmp_path / "one.sqlite", tmp_path / "kept"
    path.rename(kept)
    path.mkdir()
    case.courier.start()
    wait_until(lambda: case.spool_failures, "the spool has failed")
    path.rmdir()
    kept.rename(path)
    wait_until(lambda: case.spool_failures[-1] is None, "it works again")
    assert case.receiver.got == LINES[:1]
    assert "start the receiver" not in capfd.readouterr().err
