"""The connections whose first bytes are being read: bounded in number and in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass

from deckwire.abi.samples import SegmentSample
from deckwire.connections.head_connection import HeadConnection, HeadSeen, Recall, no_head
from deckwire.limits import HEADS, HEADS_BYTES
from deckwire.options import HEADS as HEADS_READ
from deckwire.resilience.bounded import Bounded
from deckwire.tcp.flow import FlowRecord

Identity = tuple[bytes, int]
"""Flow key and born_ns: they identify a connection for ever."""


@dataclass(slots=True)
class Counters:
    """Sums since the start."""

    opened: int = 0
    evicted: int = 0
    """Connections evicted by a bound, and reported as far as they went."""


class Heads:
    """The open ones; the one silent for longest is evicted. For one thread.

    They have bounds of their own, so that a flood of them evicts no connection with TLS. Those
    whose handshake was not seen are evicted first, because anybody can forge them.
    """

    def __init__(self, recall: Recall = no_head) -> None:
        """`recall` gives the bytes of a signature, of which the kernel suppressed the samples."""
        self._recall = recall
        self.wanted: Container[str] = HEADS_READ
        """The protocols that are read: of options.HEADS. It holds for new connections."""
        self.counters = Counters()
        self._open: OrderedDict[Identity, HeadConnection] = OrderedDict()
        self._unseen: OrderedDict[Identity, HeadConnection] = OrderedDict()
        """Those whose handshake was not seen among them, in the same order."""
        self._done: Bounded[Identity, bool] = Bounded(HEADS)
        self._held = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def held(self) -> int:
        """Bytes of memory that all of them take, about."""
        return self._held

    def add(self, sample: SegmentSample) -> tuple[HeadConnection, list[HeadSeen]] | None:
        """Take a segment; None if its connection was reported in full before."""
        identity = sample.key, sample.born_ns
        connection, held = self._open.get(identity), 0
        if connection is not None:
            held = connection.held
        else:
            if self._done.get(identity):
                return None
            connection = HeadConnection(
                *(sample.key, sample.born_ns, sample.client),
                wanted=self.wanted,
                unseen=sample.midstream,
                recall=self._recall,
            )
            self._open[identity] = connection
            self.counters.opened += 1
        self._open.move_to_end(identity)
        if connection.unseen:
            self._unseen[identity] = connection
            self._unseen.move_to_end(identity)
        try:
            seen = connection.add(sample)
        finally:
            self._held += connection.held - held
        if connection.done:
            self._drop(connection)
            self._done.put(identity, True)
        return connection, seen

    def tls_begins(
        self, key: bytes, born_ns: int, sender: int, seq: int
    ) -> tuple[HeadConnection, list[HeadSeen]] | None:
        """End the reading of a connection in which TLS begins; None if nothing was being read.

        `seq` is the sequence number at which it begins in the bytes of `sender`.
        """
        identity = key, born_ns
        connection = self._open.get(identity)
        if connection is None:
            return None
        self._done.put(identity, True)
        self._drop(connection)
        return connection, connection.begin_tls(sender, seq)

    def recall(
        self, key: bytes, record: FlowRecord
    ) -> tuple[HeadConnection, list[HeadSeen]] | None:
        """Read what the kernel suppressed of a connection that ends; None if it was reported.

        `record.heads` has the signatures. The connection is to be ended next.
        """
        identity = key, record.born_ns
        if self._done.get(identity):
            return None
        connection, held = self._open.get(identity), 0
        if connection is not None:
            held = connection.held
        else:
            connection = HeadConnection(
                *(key, record.born_ns, record.client), wanted=self.wanted, recall=self._recall
            )
            connection.proven = record.proven
            self._open[identity] = connection
            self.counters.opened += 1
        seen: list[HeadSeen] = []
        try:
            for end, signature in enumerate(record.heads):
                if signature:
                    seen += connection.recall(end, signature, record.last_ns)
        finally:
            self._held += connection.held - held
        return connection, seen

    def over_bounds(self) -> tuple[HeadConnection, list[HeadSeen]] | None:
        """Evict the connection silent for longest if there are too many; call until None."""
        if len(self._open) <= HEADS and self._held <= HEADS_BYTES:
            return None
        self.counters.evicted += 1
        return self._finish(next(iter((self._unseen or self._open).values())))

    def end(
        self, key: bytes, born_ns: int, acked: tuple[int | None, int | None] = (None, None)
    ) -> tuple[HeadConnection, list[HeadSeen]] | None:
        """End a connection; None if nothing of it was being read.

        `acked` is how many bytes of each end the other one has acknowledged, if that is known.
        """
        identity = key, born_ns
        self._done.pop(identity, None)
        connection = self._open.get(identity)
        return self._finish(connection, acked) if connection is not None else None

    def end_any(self) -> tuple[HeadConnection, list[HeadSeen]] | None:
        """End the one silent for longest; call until None."""
        for connection in self._open.values():
            return self._finish(connection)
        return None

    def _finish(
        self, connection: HeadConnection, acked: tuple[int | None, int | None] = (None, None)
    ) -> tuple[HeadConnection, list[HeadSeen]]:
        # Dropped first, so that one that cannot be finished is not met again and again.
        self._drop(connection)
        return connection, connection.finish(acked)

    def _drop(self, connection: HeadConnection) -> None:
        self._held -= connection.held
        identity = connection.key, connection.born_ns
        del self._open[identity]
        self._unseen.pop(identity, None)
