"""The connections whose TLS is being read: bounded in number and in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deckwire.abi.samples import SegmentSample
from deckwire.connections.connection import Connection, Observation
from deckwire.limits import (
    CONNECTIONS,
    CONNECTIONS_BYTES,
    RECENT_HANDSHAKES,
    STRAY_CONNECTIONS,
    STRAY_CONNECTIONS_BYTES,
)
from deckwire.tcp.handshake import Handshake
from deckwire.tls.hello_cache import HelloCache

Identity = tuple[bytes, int]
"""Flow key and born_ns: what identifies a connection for ever."""


@dataclass(slots=True)
class Counters:
    """Sums since the start."""

    opened: int = 0
    evicted: int = 0
    """Connections dropped because of a bound; told as far as they went."""
    after_done: int = 0
    """Segments of connections of which all was told: expected, they are dropped here."""
    misplaced: int = 0
    """Handshake messages where none of their kind can be."""
    malformed: int = 0
    """Handshake messages, and streams of records, that are not what they should be."""


class Connections:
    """TLS under way, by connection; the one silent for longest makes room.

    Those met in the middle make room for each other first: anybody can forge them from any source,
    and they must not push out those whose handshake was seen.
    """

    def __init__(
        self,
        find_handshake: Callable[[bytes, int, bool], Handshake | None],
        recall_hello: Callable[[Connection, int], None],
    ) -> None:
        """`find_handshake` reads an opening back from the kernel: (key, born_ns, stray).

        It is asked when an event is to tell of it: most connections of a client that comes again
        and again tell nothing. `recall_hello` makes the ClientHello of a signature known to a
        connection of which the kernel hid it.
        """
        self.counters = Counters()
        self._recall_hello = recall_hello
        self._find_handshake = find_handshake
        self._hellos = HelloCache()
        self._open: OrderedDict[Identity, Connection] = OrderedDict()
        self._recent: OrderedDict[Identity, Handshake] = OrderedDict()
        self._done: OrderedDict[Identity, None] = OrderedDict()
        self._midstream: OrderedDict[Identity, Connection] = OrderedDict()
        """Of those open, the ones met in the middle, in the same order."""
        self._held = 0
        self._strays_held = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def held(self) -> int:
        """Bytes that all of them hold, at most: see Connection.held."""
        return self._held

    def opened(self, key: bytes, born_ns: int, handshake: Handshake) -> None:
        """Remember a handshake until its connection's first TLS segment."""
        connection = self._open.get((key, born_ns))
        if connection is not None:
            # Data came before the final ACK: what the connection knows of its opening is less.
            connection.handshake = handshake
            return
        self._recent[key, born_ns] = handshake
        if len(self._recent) > RECENT_HANDSHAKES:
            self._recent.popitem(last=False)

    def add(self, sample: SegmentSample) -> tuple[Connection, list[Observation]] | None:
        """Take a segment; None if all of its connection was told before."""
        identity = sample.key, sample.born_ns
        connection = self._open.get(identity)
        held = 0
        if connection is not None:
            held = connection.held
            self._open.move_to_end(identity)
            if sample.midstream:
                self._midstream.move_to_end(identity)
        elif identity in self._done:
            self.counters.after_done += 1
            return None
        else:
            connection = self._begin(identity, sample)
        try:
            seen = connection.add(sample)
        except Exception:
            # It may hold more or less than before, and goes on if it was there before.
            if identity in self._open:
                self._held += connection.held - held
            if identity in self._midstream:
                self._strays_held += connection.held - held
            raise
        if not connection.done:
            self._held += connection.held - held
            self._open[identity] = connection
            if sample.midstream:
                self._strays_held += connection.held - held
                self._midstream[identity] = connection
            return connection, seen
        # Most connections are done with their first sample: they never stand among the open ones.
        self._drop(identity, held)
        self._count(connection)
        self._done[identity] = None
        if len(self._done) > CONNECTIONS:
            self._done.popitem(last=False)
        return connection, seen

    def over_bounds(self) -> tuple[Connection, list[Observation]] | None:
        """Drop the connection silent for longest if there are too many; call until None."""
        if self._midstream and (
            len(self._midstream) > STRAY_CONNECTIONS or self._strays_held > STRAY_CONNECTIONS_BYTES
        ):
            crowd = self._midstream
        elif len(self._open) > CONNECTIONS or self._held > CONNECTIONS_BYTES:
            crowd = self._midstream or self._open
        else:
            return None
        self.counters.evicted += 1
        return self._finish(next(iter(crowd.values())))

    def end(self, key: bytes, born_ns: int) -> tuple[Connection, list[Observation]] | None:
        """A connection is over; None if nothing of it was being read."""
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
        connection = Connection(sample.key, sample.born_ns, sample.client, handshake, self._hellos)
        if sample.hello_suppressed:
            self._recall_hello(connection, sample.hello)
        self.counters.opened += 1
        return connection

    def _found_handshake(self, key: bytes, born_ns: int, midstream: bool) -> Handshake:
        return self._find_handshake(key, born_ns, midstream) or Handshake()

    def _finish(self, connection: Connection) -> tuple[Connection, list[Observation]]:
        # First of all: one that cannot be finished must not be met again and again.
        self._drop((connection.key, connection.born_ns), connection.held)
        seen = connection.finish()
        self._count(connection)
        return connection, seen

    def _drop(self, identity: Identity, held: int) -> None:
        """It is open no longer, if it was; `held` is its part of the sums."""
        self._held -= held
        self._open.pop(identity, None)
        if self._midstream and self._midstream.pop(identity, None) is not None:
            self._strays_held -= held

    def _count(self, connection: Connection) -> None:
        self.counters.misplaced += connection.misplaced
        self.counters.malformed += connection.malformed
