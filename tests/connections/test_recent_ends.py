"""No connection ends twice, unless it was open again in between."""

from __future__ import annotations

from deckwire.abi import structs as abi
from deckwire.abi.samples import flow_record
from deckwire.connections.recent_ends import RecentEnds
from deckwire.limits import RECENT_ENDS
from deckwire.tcp.flow import FlowRecord

KEY, OTHER = bytes(36), bytes(35) + b"\1"
RECORD = flow_record(bytes(abi.FLOW_BYTES))._replace(born_ns=1, last_ns=2, isn=(3, 4))


def taken(*records: FlowRecord) -> list[bool]:
    """For each of these ends in turn, whether it was taken before."""
    ends = RecentEnds()
    return [ends.is_repeated(KEY, record) for record in records]


def test_the_same_end_is_taken_once() -> None:
    assert taken(RECORD, RECORD, RECORD) == [False, True, True]


def test_figures_that_moved_meanwhile_make_no_other_end() -> None:
    """The other CPU may account its segment after the sample of the end was made."""
    later = RECORD._replace(last_ns=3, sides=tuple(s._replace(packets=9) for s in RECORD.sides))
    assert taken(RECORD, later) == [False, True]


def test_a_connection_that_was_open_again_ends_again() -> None:
    again, often = RECORD._replace(resumed=(0, 1)), RECORD._replace(resumed=(1, 1))
    assert taken(RECORD, again, again, often) == [False, False, True, False]


def test_a_connection_is_known_by_all_that_is_its_own() -> None:
    """Without times in a capture, only the sequence numbers differ."""
    others = [RECORD._replace(born_ns=2), RECORD._replace(isn=(3, 5)), RECORD._replace(isn=None)]
    assert taken(RECORD, *others) == [False] * 4
    ends = RecentEnds()
    assert [ends.is_repeated(key, RECORD) for key in (KEY, OTHER)] == [False, False]


def test_the_oldest_end_is_forgotten() -> None:
    ends = RecentEnds()
    for number in range(RECENT_ENDS + 1):
        assert not ends.is_repeated(KEY, RECORD._replace(born_ns=number))
    assert len(ends) == RECENT_ENDS
    assert ends.is_repeated(KEY, RECORD._replace(born_ns=1))
    assert not ends.is_repeated(KEY, RECORD._replace(born_ns=0))
