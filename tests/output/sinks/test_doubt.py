from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import SINK_UNCONFIRMED
from deckwire.output.sinks.doubt import Doubt


def test_a_line_is_in_doubt_while_one_of_its_bytes_is_outstanding() -> None:
    doubt = Doubt()
    doubt.add([3, 4, 5])
    for outstanding, unconfirmed in ((12, 3), (10, 3), (9, 2), (6, 2), (5, 1), (1, 1), (0, 0)):
        doubt.confirm(outstanding)
        assert (doubt.unconfirmed, doubt.confirmed) == (unconfirmed, 3 - unconfirmed)


def test_a_line_begun_counts_among_the_outstanding_bytes() -> None:
    doubt = Doubt()
    doubt.add([10, 10])
    doubt.confirm(outstanding=7, begun=7)
    assert doubt.unconfirmed == 0


def test_more_outstanding_than_written_confirms_nothing() -> None:
    """As for Unix sockets, whose buffers are larger than the bytes in them."""
    doubt = Doubt()
    doubt.add([10])
    doubt.confirm(4_000)
    assert doubt.unconfirmed == 1


def test_the_room_is_bounded() -> None:
    doubt = Doubt()
    doubt.add([1] * SINK_UNCONFIRMED)
    assert doubt.room == 0
    doubt.confirm(1)
    assert doubt.room == SINK_UNCONFIRMED - 1


@given(st.lists(st.tuples(st.lists(st.integers(1, 9)), st.integers(0, 60)), max_size=9))
def test_lines_are_confirmed_as_their_bytes_are(steps: list[tuple[list[int], int]]) -> None:
    doubt = Doubt()
    ends: list[int] = []
    sure = 0
    for sizes, outstanding in steps:
        for size in sizes:
            ends.append((ends[-1] if ends else 0) + size)
        doubt.add(sizes)
        doubt.confirm(outstanding)
        sure = max(sure, (ends[-1] if ends else 0) - outstanding)
        assert doubt.unconfirmed == sum(end > sure for end in ends)
        assert doubt.lines == len(ends) == doubt.confirmed + doubt.unconfirmed
