"""The connections that ended last: none ends twice."""

from __future__ import annotations

from deckwire.limits import RECENT_ENDS
from deckwire.resilience.bounded import Bounded
from deckwire.tcp.flow import FlowRecord

_Identity = tuple[bytes, int, tuple[int, int] | None]
"""Flow key, born_ns and initial sequence numbers. Without the latter it is mid-stream: such a
connection and the one that its handshake then makes have the rest in common. A capture without
times has connections that differ in nothing else."""


class RecentEnds:
    """The last connections that ended: bounded in number.

    Two CPUs, or a CPU and a sweep, may find the same end in the same moment. Such ends come one
    soon after the other. A connection that was open again after a RST ends once more.
    """

    def __init__(self) -> None:
        self._resumed: Bounded[_Identity, tuple[int, int]] = Bounded(RECENT_ENDS)
        """FlowRecord.resumed, as it was when a connection ended last."""

    def __len__(self) -> int:
        return len(self._resumed)

    def is_repeated(self, key: bytes, record: FlowRecord) -> bool:
        """Take the end of a connection; whether it was taken before."""
        identity = key, record.born_ns, record.isn
        if self._resumed.get(identity) == record.resumed:
            return True
        self._resumed.put(identity, record.resumed)
        return False
