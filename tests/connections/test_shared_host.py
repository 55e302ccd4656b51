"""Clocks and counters that several deckies share; tests/pipeline/test_giveaways.py replays them."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.connections import shared_host
from deckwire.connections.shared_host import SharedClocks, SharedCounters
from deckwire.limits import ANSWERS_COMPARED, CLOCK_STAMPS

SECOND = 1_000_000_000


def address(number: int) -> bytes:
    return number.to_bytes(16, "big")


def take(clocks: SharedClocks, decky: int, client: int, time_ns: int, value: int) -> set[str]:
    found = clocks.take(f"d{decky}", address(decky), address(client), time_ns, value & 0xFFFF_FFFF)
    return set(found.deckies) if found is not None else set()


def test_memory_is_bounded_and_nothing_is_left_behind() -> None:
    clocks = SharedClocks()
    chosen = random.Random(1)
    for number in range(2 * CLOCK_STAMPS):
        take(clocks, number % 997, number, number * SECOND, chosen.getrandbits(32) or 1)
    assert len(clocks._stamps) == CLOCK_STAMPS
    assert sum(map(len, clocks._at.values())) == 3 * CLOCK_STAMPS
    clocks.clear()
    assert not clocks._at


def test_a_thousand_deckies_with_random_clocks_share_none() -> None:
    """A coincidence of one pair is not enough."""
    clocks = SharedClocks()
    chosen = random.Random(2)
    for number in range(4_000):
        assert not take(clocks, number % 1_000, number // 1_000, number, chosen.getrandbits(32))


def test_a_stamp_of_long_ago_is_not_compared() -> None:
    clocks = SharedClocks()
    for decky in (1, 2):
        take(clocks, decky, 9, 0, 5_000)
    assert not take(clocks, 3, 9, 601 * SECOND, 5_000 + 601_000)
    for decky in (1, 2):
        take(clocks, decky, 9, 601 * SECOND, 5_000 + 601_000)
    assert take(clocks, 3, 9, 602 * SECOND, 5_000 + 602_000) == {"d1", "d2", "d3"}


def test_a_clock_of_thousands_of_deckies_costs_a_bounded_time() -> None:
    clocks = SharedClocks()
    for decky in range(1_000):
        found = take(clocks, decky, 9, 0, 5_000)
        assert len(found) <= 3 * 64 + 1
        assert f"d{decky}" in found or decky < 2


@pytest.mark.interpreted
def test_a_flood_of_clients_costs_no_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of one decky, nor of two whose shared clock is reported already."""
    compared: list[int] = []
    origin = shared_host._origin
    monkeypatch.setattr(
        shared_host, "_origin", lambda rate, stamp: compared.append(rate) or origin(rate, stamp)
    )
    for deckies in (1, 2):
        clocks = SharedClocks()
        compared.clear()
        found = 0
        for client in range(4_000):
            # All within the tolerance, and within a second.
            found += bool(take(clocks, client % deckies, client, client * 5_000, 90_000))
        assert found == (deckies if deckies > 1 else 0)
        # Its own origin, those of the few stamps that it is compared with, and of one to forget.
        assert len(compared) <= 4_000 * 3 * 6
        assert max(map(len, clocks._at.values())) <= 2 * deckies


def test_a_shared_clock_is_found_behind_a_crowd_of_clients() -> None:
    clocks = SharedClocks()
    for client in range(500):
        assert not take(clocks, 1, client, client, 90_000)
    assert not take(clocks, 2, 1, 600, 90_000)
    assert take(clocks, 2, 2, 700, 90_000) == {"d1", "d2"}
    # The decky that was compared just now is compared again later.
    assert not take(clocks, 2, 3, 800, 90_000)
    assert take(clocks, 2, 4, 2 * SECOND, 92_000) == {"d1", "d2"}


def test_a_stamp_of_0_is_no_clock() -> None:
    clocks = SharedClocks()
    assert not any(take(clocks, decky, 9, 0, 0) for decky in range(5))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1))))
def test_any_numbers_are_compared(answers: list[tuple[int, int, int]]) -> None:
    counters = SharedCounters()
    for decky, ip_id, isn in answers:
        for shared in counters.take(f"d{decky}", address(decky), ip_id, isn):
            assert shared is None or len(shared.deckies) == 2


@pytest.mark.parametrize("most", [64, 1 << 10])
def test_numbers_that_are_near_each_other_are_found(most: int) -> None:
    """Also across the greatest number, and among a bounded number of others."""
    numbers = shared_host._Numbers("numbers", 0xFFFF, most)
    chosen = random.Random(4)
    value = found = 0
    for turn in range(6 * ANSWERS_COMPARED):
        value += chosen.choice([1, most // 2, most, most + 1, -1])
        answer = shared_host._Answer(f"d{turn % 2}", address(turn % 2), value & 0xFFFF)
        expected = numbers._shared(answer)
        assert numbers.take(answer) == expected
        found += expected is not None
        assert len(numbers) <= ANSWERS_COMPARED
        assert sum(numbers._ranges.values()) == len(numbers)
    assert found


@pytest.mark.interpreted
def test_a_client_that_comes_again_is_compared_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    origin = shared_host._origin
    monkeypatch.setattr(
        shared_host, "_origin", lambda rate, stamp: compared.append(rate) or origin(rate, stamp)
    )
    clocks = SharedClocks()
    for number in range(1_000):
        take(clocks, 1, 9, number, 90_000)
    once = len(compared)
    assert once <= 3 * 3
    take(clocks, 1, 9, SECOND, 91_000)
    assert len(compared) > once


def test_random_numbers_are_not_counted_together() -> None:
    counters = SharedCounters()
    chosen = random.Random(3)
    for number in range(3_000):
        decky = number % 3
        ids, isns = counters.take(
            f"d{decky}", address(decky), chosen.getrandbits(16), chosen.getrandbits(32)
        )
        assert ids is None
        assert isns is None


def test_an_evidence_names_a_few_deckies() -> None:
    clocks = SharedClocks()
    found = None
    for decky in range(40):
        found = clocks.take(f"d{decky}", address(decky), address(9), 0, 77_000)
    assert found is not None
    assert "and 32 more" in found.evidence
    assert "77 s ago" in found.evidence
    assert sys.getsizeof(found.evidence) < 500
    assert shared_host._SHOWN == 8
