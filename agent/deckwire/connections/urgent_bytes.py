"""The urgent bytes of connections: their receivers acknowledge them, and no socket reads them."""

from __future__ import annotations

from deckwire.abi.samples import SegmentSample
from deckwire.limits import URGENT_CONNECTIONS, URGENT_MARKS
from deckwire.resilience.bounded import Bounded

_SEQ_MASK = 0xFFFF_FFFF
_SEQ_HALF = 0x8000_0000

Marks = tuple[tuple[int, ...], tuple[int, ...]]
"""Sequence numbers of the urgent bytes of each end."""
_NONE: Marks = ((), ())


class UrgentBytes:
    """Where urgent pointers stood, by connection: bounded in number.

    A later pointer takes the place of an earlier one whose byte has not come in order
    (tcp_check_urg in Linux). Segments are taken for in order here.
    """

    def __init__(self) -> None:
        self._marks: Bounded[tuple[bytes, int], Marks] = Bounded(URGENT_CONNECTIONS)

    def __len__(self) -> int:
        return len(self._marks)

    def note(self, sample: SegmentSample) -> None:
        """Take the urgent pointer of a segment, if it has one."""
        mark = sample.urgent_seq
        if mark is None:
            return
        identity = sample.key, sample.born_ns
        ends = self._marks.get(identity) or _NONE
        marks = _noted(ends[sample.sender], sample.seq, mark)
        self._marks.put(identity, (marks, ends[1]) if sample.sender == 0 else (ends[0], marks))

    def ended(self, key: bytes, born_ns: int) -> Marks | None:
        """The urgent bytes of a connection that has ended; None if it had none."""
        return self._marks.pop((key, born_ns), None)


def _noted(marks: tuple[int, ...], seq: int, mark: int) -> tuple[int, ...]:
    if not marks:
        return (mark,)
    if not _is_before(marks[-1], mark):
        return marks
    if not _is_before(marks[-1], seq):
        return (*marks[:-1], mark)
    return (*marks, mark) if len(marks) < URGENT_MARKS else marks


def _is_before(first: int, second: int) -> bool:
    return (second - first - 1) & _SEQ_MASK < _SEQ_HALF
