"""The connections whose TLS is being read: bounded in number and in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from deckwire.abi.samples import SackSample, SegmentSample
from deckwire.connections.connection import Connection
from deckwire.connections.observations import Observation
from deckwire.limits import (
    CONNECTIONS,
    CONNECTIONS_BYTES,
    MIDSTREAM_CONNECTIONS,
    MIDSTREAM_CONNECTIONS_BYTES,
    RECENT_HANDSHAKES,
    SYN_DATA,
    SYN_DATA_BYTES,
)
from deckwire.resilience.bounded import Bounded
from deckwire.resilience.sized_cache import SizedCache
from deckwire.tcp.handshake import Handshake
from deckwire.tls.hello_cache import HelloCache

Identity = tuple[bytes, int]
"""Flow key and born_ns: they identify a connection for ever."""


@dataclass(slots=True)
class Counters:
    """Sums since the start."""

    opened: int = 0
    evicted: int = 0
    """Connections evicted by a bound, and reported as far as they went."""
    after_done: int = 0
    """Segments of connections that were reported in full: expected, and dropped here."""
    misplaced: int = 0
    """Handshake messages where none of their kind can be."""
    malformed: int = 0
    """Handshake messages, and streams of records, that are malformed."""
    bytes_dropped: int = 0
    """Payload bytes for which the bounds of a stream left no room."""


class Connections:
    """Connections with TLS under way; the one silent for longest is evicted. For one thread.

    Mid-stream ones are evicted first, because anybody can forge them from any source: they must not
    evict those whose handshake was seen.
    """

    def __init__(
        self,
        find_handshake: Callable[[bytes, int, bool], Handshake | None],
        recall_hello: Callable[[Connection, int], None],
    ) -> None:
        """`find_handshake` reads a handshake from the kernel: (key, born_ns, midstream).

        It is called when an event needs it, because most connections of a client that comes again
        and again make no event. `recall_hello` gives a connection the ClientHello of a signature
        of which the kernel suppressed the sample.
        """
        self.counters = Counters()
        self._recall_hello = recall_hello
        self._find_handshake = find_handshake
        self._hellos = HelloCache()
        self._open: OrderedDict[Identity, Connection] = OrderedDict()
        self._midstream: OrderedDict[Identity, Connection] = OrderedDict()
        """The mid-stream ones among them, in the same order."""
        self._midstream_held = 0
        self._recent: Bounded[Identity, Handshake] = Bounded(RECENT_HANDSHAKES)
        self._done: Bounded[Identity, bool] = Bounded(CONNECTIONS)
        self._held = 0
        self._syn_data: SizedCache[Identity, SegmentSample] = SizedCache(SYN_DATA, SYN_DATA_BYTES)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def held(self) -> int:
        """Bytes of memory that the payload of all of them takes, about."""
        return self._held

    def opened(self, key: bytes, born_ns: int, handshake: Handshake) -> None:
        """Remember a handshake until its connection's first TLS segment."""
        identity = key, born_ns
        connection = self._open.get(identity)
        if connection is not None:
            # Data came before the final ACK, so the connection knows less of its handshake.
            connection.handshake = handshake
            connection.midstream, connection.proven = False, True
            return
        self._recent.put(identity, handshake)

    def first_seq(self, sample: SegmentSample) -> int | None:
        """Sequence number of the first byte of a segment's end; None if it is not at hand."""
        identity = sample.key, sample.born_ns
        connection = self._open.get(identity)
        handshake = self._recent.get(identity) if connection is None else connection.handshake
        if handshake is None:
            return None
        return handshake.first_seq(of_client=sample.sender == sample.client)

    def hold(self, sample: SegmentSample) -> None:
        """Hold the payload of a SYN until its SYN-ACK shows how much of it the server took."""
        self._syn_data.keep((sample.key, sample.born_ns), sample, len(sample.payload))

    def held_syn_data(self, key: bytes, born_ns: int, handshake: Handshake) -> SegmentSample | None:
        """The held payload of a connection's SYN, as far as the server took it."""
        sample = self._syn_data.pop((key, born_ns))
        if sample is None or not (taken := handshake.syn_data_taken):
            return None
        return replace(
            sample,
            payload=sample.payload[:taken],
            claimed=min(sample.claimed, taken),
            syn_data=False,
        )

    def add(self, sample: SegmentSample) -> tuple[Connection, list[Observation]] | None:
        """Take a segment; None if its connection was reported in full before."""
        identity = sample.key, sample.born_ns
        connection = self._open.get(identity)
        is_new, held = connection is None, 0
        if connection is not None:
            held = connection.held
            self._open.move_to_end(identity)
            # One whose hello came in fragments began later than it was followed mid-stream.
            midstream = identity in self._midstream
            if midstream:
                self._midstream.move_to_end(identity)
            else:
                connection.midstream = False
            connection.proven = connection.proven or sample.proven
        elif self._done.get(identity):
            self.counters.after_done += 1
            return None
        else:
            connection = self._begin(identity, sample)
            midstream = sample.midstream
        try:
            seen = connection.add(sample)
        except Exception:
            # It may hold more or less than before, and goes on if it was there before.
            if not is_new:
                self._recount(identity, connection.held - held)
            raise
        if not connection.done:
            self._open[identity] = connection
            if midstream:
                self._midstream[identity] = connection
            self._recount(identity, connection.held - held)
            return connection, seen
        # Many connections are done with their first sample: those were never open.
        if not is_new:
            self._drop(identity, held)
        self._count(connection)
        self._done.put(identity, True)
        return connection, seen

    def prove(self, sample: SackSample) -> None:
        """Take what the receiver of an open connection says that it holds out of order."""
        identity = sample.key, sample.born_ns
        connection = self._open.get(identity)
        if connection is None:
            return
        held = connection.held
        connection.sides[1 - sample.sender].prove(sample)
        self._recount(identity, connection.held - held)

    def over_bounds(self) -> tuple[Connection, list[Observation]] | None:
        """Evict the connection silent for longest if there are too many; call until None."""
        if self._midstream and (
            len(self._midstream) > MIDSTREAM_CONNECTIONS
            or self._midstream_held > MIDSTREAM_CONNECTIONS_BYTES
        ):
            crowd = self._midstream
        elif len(self._open) > CONNECTIONS or self._held > CONNECTIONS_BYTES:
            crowd = self._midstream or self._open
        else:
            return None
        self.counters.evicted += 1
        return self._finish(next(iter(crowd.values())))

    def end(self, key: bytes, born_ns: int) -> tuple[Connection, list[Observation]] | None:
        """End a connection; None if nothing of it was being read."""
        identity = key, born_ns
        self._recent.pop(identity, None)
        self._done.pop(identity, None)
        connection = self._open.get(identity)
        return self._finish(connection) if connection is not None else None

    def end_any(self) -> tuple[Connection, list[Observation]] | None:
        """End one of them, at shutdown; call until None."""
        for connection in self._open.values():
            return self._finish(connection)
        return None

    def _begin(self, identity: Identity, sample: SegmentSample) -> Connection:
        handshake: Handshake | Callable[[], Handshake] | None = self._recent.pop(identity, None)
        if handshake is None:
            handshake = partial(self._found_handshake, sample.key, sample.born_ns, sample.midstream)
        connection = Connection(
            sample.key,
            sample.born_ns,
            sample.client,
            handshake,
            self._hellos,
            midstream=sample.midstream,
            proven=sample.proven,
        )
        if sample.hello_suppressed:
            self._recall_hello(connection, sample.hello)
        self.counters.opened += 1
        return connection

    def _found_handshake(self, key: bytes, born_ns: int, midstream: bool) -> Handshake:
        return self._find_handshake(key, born_ns, midstream) or Handshake()

    def _finish(self, connection: Connection) -> tuple[Connection, list[Observation]]:
        # Dropped first, so that one that cannot be finished is not met again and again.
        self._drop((connection.key, connection.born_ns), connection.held)
        seen = connection.finish()
        self._count(connection)
        return connection, seen

    def _recount(self, identity: Identity, more: int) -> None:
        """An open connection holds so many bytes more."""
        self._held += more
        if identity in self._midstream:
            self._midstream_held += more

    def _drop(self, identity: Identity, held: int) -> None:
        """Take a connection out of the open ones, if it is one; `held` is its part of the sums."""
        self._held -= held
        self._open.pop(identity, None)
        if self._midstream and self._midstream.pop(identity, None) is not None:
            self._midstream_held -= held

    def _count(self, connection: Connection) -> None:
        counters = self.counters
        counters.misplaced += connection.misplaced
        counters.malformed += connection.malformed
        first, second = connection.sides
        counters.bytes_dropped += first.dropped + second.dropped
