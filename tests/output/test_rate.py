"""A rate keeps the last places for warnings."""

from __future__ import annotations

import pytest

from deckwire.output.rate import RATE_LIMIT, EventRate, check_rate

INFO, WARNING = 6, 4


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(rate: EventRate, severity: int, offered: int) -> int:
    return sum(rate.take(severity) for _ in range(offered))


def test_no_more_than_the_rate_passes_in_a_second() -> None:
    clock = Clock()
    rate = EventRate(100, clock)
    assert taken(rate, WARNING, 1_000) == 100
    clock.now += 0.5
    assert taken(rate, WARNING, 1_000) == 50
    clock.now += 100
    assert taken(rate, WARNING, 1_000) == 100


def test_warnings_are_the_last_to_be_refused() -> None:
    clock = Clock()
    rate = EventRate(100, clock)
    assert taken(rate, INFO, 1_000) == 50
    assert taken(rate, WARNING, 1_000) == 50
    clock.now += 0.3
    assert taken(rate, INFO, 1_000) == 0
    assert taken(rate, WARNING, 1_000) == 30


def test_one_a_second_still_passes() -> None:
    clock = Clock()
    rate = EventRate(1, clock)
    assert taken(rate, INFO, 10) == 1
    clock.now += 1
    assert taken(rate, INFO, 10) == 1


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "9" * 30, str(RATE_LIMIT + 1), "٣"])
def test_a_wrong_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="use a whole number from 1"):
        check_rate(text)


def test_a_right_rate_is_a_number() -> None:
    assert check_rate("250") == 250
