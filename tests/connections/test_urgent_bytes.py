"""Urgent bytes are acknowledged, and no socket reads them."""

from __future__ import annotations

import pytest

from deckwire.abi.samples import SegmentSample
from deckwire.connections.urgent_bytes import UrgentBytes
from deckwire.limits import URGENT_CONNECTIONS, URGENT_MARKS
from deckwire.tcp.flow import SideRecord

KEY = bytes(36)
WRAPS = 0xFFFF_FFF0


def sample(seq: int, urgent: int | None, sender: int = 0, born_ns: int = 1) -> SegmentSample:
    """A segment whose numbers count from WRAPS."""
    return SegmentSample(
        time_ns=1,
        born_ns=born_ns,
        key=KEY,
        sender=sender,
        client=0,
        midstream=False,
        seq=(WRAPS + seq) & 0xFFFF_FFFF,
        start_seq=None,
        payload=b"",
        claimed=0,
        urgent_seq=None if urgent is None else (WRAPS + urgent) & 0xFFFF_FFFF,
    )


@pytest.mark.parametrize(
    ("segments", "marks"),
    [
        ([(0, None)], None),
        ([(0, 5)], [5]),
        ([(0, 5), (0, 5)], [5]),
        ([(0, 5), (6, 30)], [5, 30]),
        ([(0, 20), (5, 30)], [30]),
        ([(0, 30), (5, 20)], [30]),
    ],
    ids=[
        *("none", "one", "again", "another", "one before the other came"),
        "one that is lower",
    ],
)
def test_which_bytes_are_left_out(
    segments: list[tuple[int, int | None]], marks: list[int] | None
) -> None:
    urgent = UrgentBytes()
    for each in segments:
        urgent.note(sample(*each))
    found = urgent.ended(KEY, 1)
    expected = marks and (tuple((WRAPS + mark) & 0xFFFF_FFFF for mark in marks), ())
    assert found == expected
    assert urgent.ended(KEY, 1) is None


def test_each_end_has_its_own() -> None:
    urgent = UrgentBytes()
    for sender in (1, 0):
        urgent.note(sample(0, 5 + sender, sender))
    assert urgent.ended(KEY, 1) == ((WRAPS + 5,), (WRAPS + 6,))


def test_the_bounds() -> None:
    urgent = UrgentBytes()
    for at in range(0, 10 * URGENT_MARKS, 2):
        urgent.note(sample(at, at))
    found = urgent.ended(KEY, 1)
    assert found is not None
    assert len(found[0]) == URGENT_MARKS
    for born_ns in range(URGENT_CONNECTIONS + 5):
        urgent.note(sample(0, 5, born_ns=born_ns))
    assert len(urgent) == URGENT_CONNECTIONS


@pytest.mark.parametrize(("acked", "accepted"), [(30, 28), (21, 19), (20, 19), (3, 3)], ids=str)
def test_a_byte_that_was_not_accepted_is_not_left_out(acked: int, accepted: int) -> None:
    marks = [(WRAPS + mark) & 0xFFFF_FFFF for mark in (5, 20)]
    side = SideRecord(1, 0, 0, acked, (WRAPS + acked) & 0xFFFF_FFFF)
    assert side.without_urgent(marks).accepted == accepted


def test_what_is_unknown_stays_so() -> None:
    side = SideRecord(1, 0, 0)
    assert side.without_urgent([5]) == side
