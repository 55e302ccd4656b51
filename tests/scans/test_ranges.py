"""ranges: numbers as compact text, never longer than asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.scans.ranges import CUT, ranges


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([443, 22, 80, 22], "22,80,443"),
        ([1, 2], "1,2"),
        ([1, 2, 3], "1-3"),
        ([22, 80, 443, *range(8_000, 8_101)], "22,80,443,8000-8100"),
        (range(65_536), "0-65535"),
    ],
)
def test_text(numbers: list[int], text: str) -> None:
    assert ranges(numbers, 100) == text


def read(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


@given(st.sets(st.integers(0, 65_535)))
def test_it_can_be_read_back(numbers: set[int]) -> None:
    assert read(ranges(numbers, 1 << 20)) == numbers


@given(st.sets(st.integers(0, 65_535), min_size=1), st.integers(len(CUT), 40))
def test_a_list_that_is_cut_says_so_and_has_only_what_was_there(
    numbers: set[int], most: int
) -> None:
    text = ranges(numbers, most)
    assert len(text) <= most
    if text.endswith(CUT):
        found = read(text.removesuffix(CUT))
        assert found < numbers
        assert not found or max(found) < min(numbers - found)
    else:
        assert read(text) == numbers
