"""The kernel's tables of open connections: `flows` and `midstream_flows`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from deckwire.abi import structs as abi
from deckwire.abi.hashes import flow_id
from deckwire.abi.samples import (
    MalformedSample,
    SuppressedHello,
    flow_handshake,
    flow_record,
    flow_suppressed_hello,
)
from deckwire.kernel.maps import Batch, Map
from deckwire.tcp.flow import FlowRecord
from deckwire.tcp.handshake import Handshake

_CROWDED = 0.9
"""Fill of the flows table, and of a source's share, from which connections are evicted."""


class OpenFlow(NamedTuple):
    """One entry of the flows or midstream_flows map."""

    entry: bytes
    """The key of the map: struct flow_id, or struct flow_key in midstream_flows."""
    value: bytes
    """struct flow."""
    midstream: bool

    @property
    def key(self) -> bytes:
        """The 4-tuple (struct flow_key)."""
        return self.value[abi.FLOW_KEY : abi.FLOW_KEY + abi.FLOW_KEY_BYTES]

    @property
    def established_ns(self) -> int:
        """Kernel time of the final ACK; 0 if that was not seen."""
        (established_ns,) = abi.ESTABLISHED.unpack_from(self.value)
        return int(established_ns)

    @property
    def state(self) -> FlowState:
        """The members that a sweep decides by."""
        return FlowState(*abi.FLOW_STATE.unpack_from(self.value))


class FlowState(NamedTuple):
    """Some members of struct flow, as abi.FLOW_STATE reads them."""

    last_ns: int
    """Kernel time of the last packet."""
    close: int
    """abi.CLOSE_NONE while the connection is open."""
    source_slot: int
    """Slot in which the kernel counts the connections of this source."""
    end_sent: int
    """Not 0 if the sample of the end has reached the ring, or is not needed."""
    synack_flags: int
    """Of the SYN-ACK: abi.HANDSHAKE_LOST among others."""

    @property
    def closed(self) -> bool:
        """Whether the end of the connection was seen."""
        return self.close != abi.CLOSE_NONE


class FlowBatch(NamedTuple):
    """Some entries of one map, in memory that the next batch overwrites."""

    entries: Batch
    midstream: bool

    def states(self) -> list[tuple[int, int, int, int, int]]:
        """The members of FlowState, for each entry."""
        # Decoding the whole of each entry would cost a sweep 30 us an entry.
        return list(abi.FLOW_STATE.iter_unpack(self.entries.values))

    def flow(self, number: int) -> OpenFlow:
        """Copy one entry."""
        return OpenFlow(*self.entries.entry(number), self.midstream)


class FlowTables:
    """Reads and deletes open connections, and corrects the counts of their sources.

    It owns no map. For one thread.
    """

    def __init__(self, maps: Mapping[str, Map], seed: int, share: int) -> None:
        """`seed` is the seed of the kernel's hashes, `share` what one source may have."""
        self._flows = maps["flows"]
        self._midstream = maps["midstream_flows"]
        self._sources = maps["sources"]
        self._seed = seed
        self._share = share
        self.midstream_deleted = 0
        """Entries of midstream_flows that the agent has deleted."""
        self._left: set[int] = set()
        """Slots of sources whose counts may be too high.

        They had connections at the last recount, or a connection of theirs was deleted since.
        """

    def handshake(self, key: bytes, born_ns: int, midstream: bool) -> Handshake | None:
        """The handshake of an open connection; None if it is gone or another took its place."""
        value = self._midstream.lookup(key) if midstream else self._find(key)
        if value is None or abi.FLOW_BORN.unpack_from(value) != (born_ns,):
            return None
        try:
            return flow_handshake(value)
        except MalformedSample:
            return None

    def record(self, key: bytes, born_ns: int) -> FlowRecord | None:
        """The figures of a connection as they are now; None if it is gone or mid-stream."""
        value = self._find(key)
        if value is None or abi.FLOW_BORN.unpack_from(value) != (born_ns,):
            return None
        try:
            return flow_record(value)
        except MalformedSample:
            return None

    def suppressed_hello(self, key: bytes, born_ns: int) -> SuppressedHello | None:
        """The ClientHello that the kernel suppressed; None if the connection is gone."""
        value = self._find(key)
        if value is None or abi.FLOW_BORN.unpack_from(value) != (born_ns,):
            return None
        try:
            return flow_suppressed_hello(value, self._seed)
        except MalformedSample:
            return None

    def every_flow(self) -> Iterator[OpenFlow]:
        """Every connection in both maps; the caller may delete entries meanwhile."""
        for batch in self.batches():
            yield from map(batch.flow, range(batch.entries.size))

    def batches(self) -> Iterator[FlowBatch]:
        """The same connections in batches, because a sweep copies few entries whole."""
        for entries in self._flows.batches():
            yield FlowBatch(entries, midstream=False)
        for entries in self._midstream.batches():
            yield FlowBatch(entries, midstream=True)

    def take(self, flow: OpenFlow) -> OpenFlow | None:
        """Delete a connection and return it as it was at that moment.

        Returns None if it is gone or another is in its place. The kernel has submitted the end
        sample of a connection that is gone.
        """
        table = self._midstream if flow.midstream else self._flows
        value = table.lookup(flow.entry)
        if value is None or abi.FLOW_BORN.unpack_from(value) != abi.FLOW_BORN.unpack_from(
            flow.value
        ):
            return None
        if not table.delete(flow.entry):
            return None
        taken = flow._replace(value=value)
        if flow.midstream:
            self.midstream_deleted += 1
        else:
            self._left.add(taken.state.source_slot)
        return taken

    def delete_ended(self, batch: FlowBatch, numbers: list[int], slots: Iterable[int]) -> int:
        """Delete connections of a batch whose ends were sent; `slots` are those of their sources.

        Returns how many were there.

        Unlike take(), this does not look at each entry again. A client may complete another
        handshake from the same port after the batch was read, in less than a millisecond. That
        connection then counts as mid-stream.
        """
        if not numbers:
            return 0
        table = self._midstream if batch.midstream else self._flows
        deleted = table.delete_batch(b"".join(map(batch.entries.key, numbers)))
        if batch.midstream:
            self.midstream_deleted += deleted
        else:
            self._left.update(slots)
        return deleted

    def midstream_size(self) -> int:
        """How many mid-stream connections are present, by a sweep."""
        return sum(batch.size for batch in self._midstream.batches())

    def fill(self, flows: int) -> float:
        """The part of the flows map that so many connections take, from 0 to 1."""
        return flows / self._flows.max_entries

    def crowd(self, flows: int) -> int:
        """How many of `flows` connections in the flows map are too many."""
        return max(flows - int(_CROWDED * self._flows.max_entries), 0)

    def crowded_sources(self, sources: Mapping[int, int]) -> list[tuple[int, int]]:
        """The slots of sources near their share, and how many connections too many each has."""
        most = max(int(_CROWDED * self._share), 1)
        return [(slot, count - most) for slot, count in sources.items() if count > most]

    def recount_sources(self, flows: Mapping[int, int], at_once: int) -> Iterator[None]:
        """Correct how many connections each source has, in parts of `at_once` sources.

        `flows` are the connections present, by slot.
        """
        for number, slot in enumerate(flows.keys() | self._left, 1):
            key = abi.SLOT.pack(slot)
            value = self._sources.lookup(key)
            if value is not None:
                *budget, counted = abi.SOURCE.unpack(value)
                present = flows.get(slot, 0)
                if counted != present:
                    self._sources.update(key, abi.SOURCE.pack(*budget, present))
            if not number % at_once:
                yield
        self._left = {slot for slot, present in flows.items() if present}

    def _find(self, key: bytes) -> bytes | None:
        return self._flows.lookup(flow_id(key, self._seed))
