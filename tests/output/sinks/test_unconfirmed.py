"""Which lines are unconfirmed while some bytes are outstanding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import SINK_UNCONFIRMED
from deckwire.output.sinks.unconfirmed import UnconfirmedLines


def test_a_line_is_unconfirmed_while_one_of_its_bytes_is_outstanding() -> None:
    lines = UnconfirmedLines()
    lines.add([3, 4, 5])
    for outstanding, unconfirmed in ((12, 3), (10, 3), (9, 2), (6, 2), (5, 1), (1, 1), (0, 0)):
        lines.confirm(outstanding)
        assert (lines.unconfirmed, lines.confirmed) == (unconfirmed, 3 - unconfirmed)


def test_the_bytes_of_a_line_begun_may_be_the_outstanding_ones() -> None:
    lines = UnconfirmedLines()
    lines.add([10, 10])
    lines.confirm(outstanding=7, begun=7)
    assert lines.unconfirmed == 0


def test_more_outstanding_than_written_confirms_nothing() -> None:
    """Unix sockets report more, because a buffer takes more memory than its bytes."""
    lines = UnconfirmedLines()
    lines.add([10])
    lines.confirm(4_000)
    assert lines.unconfirmed == 1


def test_the_room_is_bounded() -> None:
    lines = UnconfirmedLines()
    lines.add([1] * SINK_UNCONFIRMED)
    assert lines.room == 0
    lines.confirm(1)
    assert lines.room == SINK_UNCONFIRMED - 1


@given(st.lists(st.tuples(st.lists(st.integers(1, 9)), st.integers(0, 60)), max_size=9))
def test_lines_are_confirmed_as_their_bytes_are(steps: list[tuple[list[int], int]]) -> None:
    lines = UnconfirmedLines()
    ends: list[int] = []
    sure = 0
    for sizes, outstanding in steps:
        for size in sizes:
            ends.append((ends[-1] if ends else 0) + size)
        lines.add(sizes)
        lines.confirm(outstanding)
        sure = max(sure, (ends[-1] if ends else 0) - outstanding)
        assert lines.unconfirmed == sum(end > sure for end in ends)
        assert lines.lines == len(ends) == lines.confirmed + lines.unconfirmed
