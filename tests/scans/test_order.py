"""order and spread: what the sequence of targets shows."""

from __future__ import annotations

import random

import pytest

from deckwire.scans.order import Place, order, spread
from tests.support.scanning import DECKIES, packed

A, B, C = map(packed, DECKIES)
SHUFFLED = random.Random(7).sample(range(1, 1_000), 100)


def tcp(decky: bytes, *ports: int) -> list[Place]:
    return [(decky, 6, port) for port in ports]


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ([], ""),
        (tcp(A, 22), "single"),
        (tcp(A, 22, 80, 443), ""),
        (tcp(A, 1, 2, 3, 4, 5), "sequential"),
        (tcp(A, 5, 4, 3, 2, 1), "sequential"),
        (tcp(A, *range(1, 50), 3, *range(51, 90)), "sequential"),
        (tcp(A, *SHUFFLED), "random"),
        (tcp(A, 1, 2, 3) + tcp(B, 1, 2, 3), "sequential"),
        # Three hosts at once, one port after another.
        ([(decky, 6, port) for port in range(1, 9) for decky in (C, A, B)], "sequential"),
        # A sweep of addresses: one port of each.
        ([(packed(f"192.0.2.{n}"), 6, 22) for n in range(1, 9)], "sequential"),
        ([(packed(f"192.0.2.{n}"), 6, 22) for n in (7, 1, 8, 2, 9, 3, 5, 4)], "random"),
        ([(packed(f"192.0.2.{n}"), 0, 0) for n in (1, 2)], ""),
    ],
)
def test_order(places: list[Place], found: str) -> None:
    assert order(places) == found


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ([], ""),
        (tcp(A, 22), ""),
        (tcp(A, 22, 23), "vertical"),
        ([*tcp(A, 53), (A, 17, 53)], "vertical"),
        (tcp(A, 22) + tcp(B, 22), "horizontal"),
        (tcp(A, 22) + tcp(B, 23), "horizontal"),
        (tcp(A, 22, 23) + tcp(B, 22), "both"),
    ],
)
def test_spread(places: list[Place], found: str) -> None:
    assert spread(places) == found
