"""An exception ends one step and not the capture."""

from __future__ import annotations

import os
import sys

import pytest

from deckwire.resilience import containment as module
from deckwire.resilience.containment import Containment, Where
from deckwire.resilience.report import report


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def contained(lines: list[str]) -> Containment:
    return Containment(lines.append)


def trip(contained: Containment, where: Where, error: Exception) -> None:
    with contained.during(where):
        raise error


def test_an_exception_is_counted_by_its_step_and_reported_once(
    contained: Containment, lines: list[str]
) -> None:
    for _ in range(3):
        trip(contained, Where.SWEEP, IndexError("list index out of range"))
    trip(contained, Where.SWEEP, KeyError("x"))
    trip(contained, Where.DUE, KeyError("x"))
    assert contained.counts == {"failures_sweep": 4, "failures_due": 1}
    assert len(lines) == 3
    assert "failures_sweep: IndexError: list index out of range (test_containment.py:" in lines[0]
    assert "please report this line" in lines[0]


def test_an_exception_that_was_never_raised_has_no_place(
    contained: Containment, lines: list[str]
) -> None:
    contained.failed(Where.SAMPLE, ValueError("odd"))
    assert "samples_failed: ValueError: odd (?)" in lines[0]


def test_a_peers_bytes_cannot_forge_a_line(contained: Containment, lines: list[str]) -> None:
    trip(contained, Where.SAMPLE, ValueError("a\nready\x1b[2J" + "x" * 10_000))
    assert "\n" not in lines[0]
    assert "\x1b" not in lines[0]
    assert len(lines[0]) < 400


def test_the_kinds_reported_are_bounded(
    contained: Containment, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FAILURE_KINDS", 2)
    for error in (KeyError(), IndexError(), OSError()):
        trip(contained, Where.END, error)
    assert contained.counts["failures_end"] == 3
    assert len(lines) == 2


def test_an_exit_is_not_caught(contained: Containment) -> None:
    with pytest.raises(SystemExit), contained.during(Where.SWEEP):
        raise SystemExit
    assert not contained.counts


def test_a_report_that_nobody_can_read_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        report("nobody reads this")
        monkeypatch.undo()
        # What is still in the buffer cannot be written either.
        with pytest.raises(BrokenPipeError):
            gone.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())
