"""Targets: the same with few of them and with many."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from deckwire.scans.order import Place
from deckwire.scans.targets import Targets
from tests.support.scanning import DECKIES, packed

places = st.tuples(
    st.sampled_from([packed(address) for address in DECKIES]),
    st.sampled_from([0, 1, 6, 17, 255]),
    st.integers(0, 9) | st.just(65_535),
)


@given(st.lists(st.tuples(places, st.integers(1, 2**23 - 1)), max_size=40))
def test_they_are_kept_in_their_order(touches: list[tuple[Place, int]]) -> None:
    targets = Targets()
    expected: dict[Place, int] = {}
    for place, known in touches:
        assert (place in targets) == (place in expected)
        targets.add(place, known)
        expected[place] = expected.get(place, 0) | known
        assert len(targets) == len(expected)
    assert list(targets) == list(expected.items())
    assert targets.deckies() == list(dict.fromkeys(decky for decky, _, _ in expected))
    again = Targets()
    deckies, found = targets.memory
    again.restore(list(deckies), found)
    assert list(again) == list(targets)


def test_few_of_them_take_a_string_of_bytes() -> None:
    targets = Targets()
    for port in range(4):
        targets.add((packed(DECKIES[0]), 6, port), 1)
    assert targets._found is None
    assert sys.getsizeof(targets._few) < 150
    targets.add((packed(DECKIES[0]), 6, 3), 2)
    assert targets._found is None
    targets.add((packed(DECKIES[0]), 6, 4), 1)
    assert [(place[2], known) for place, known in targets] == [
        *((0, 1), (1, 1), (2, 1), (3, 3), (4, 1))
    ]
