"""The kernel's tables as the agent uses them: who is watched, what is open, what was counted."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from struct import Struct, calcsize
from typing import NamedTuple

from deckwire.abi import structs as abi
from deckwire.abi.samples import MalformedSample, flow_handshake, flow_suppressed_hello
from deckwire.connections.suppressed_hello import SuppressedHello
from deckwire.kernel.maps import Batch, Map
from deckwire.tables.deckies import DeckyTables
from deckwire.tables.suppression import Suppression
from deckwire.tcp.flow import flow_id
from deckwire.tcp.handshake import Handshake

_SLOT = Struct("<I")
_ZERO = _SLOT.pack(0)
_COUNTERS = Struct(f"<{len(abi.COUNTERS)}Q")
_STATE = "<8xQ17xBBxI"
_FLOW_STATE = Struct(f"{_STATE}{abi.FLOW_BYTES - calcsize(_STATE)}x")
"""last_ns, close, flags and source_slot of struct flow: a sweep looks at every entry, and to
decode each would cost 30 us. A test holds it against abi.FLOW_TOTALS."""
_HALF_OPEN = Struct(
    f"<{abi.HALF_OPEN_BYTES - 2 * abi.SYN_PACKET_BYTES - 8}xQ"
    f"{abi.SYN_PACKET_BYTES - 8 + abi.SYN_PACKET_IP_VERSION}xB"
    f"{abi.SYN_PACKET_BYTES - abi.SYN_PACKET_IP_VERSION - 1}xB7x"
)
"""time_ns of the SYN, ip_version of the SYN-ACK (0: none was seen) and client of struct half_open;
a test holds it against abi.SCHEMAS."""
_SOURCE = Struct("<16sQ")
"""struct source: the budget as it stands, and the number of connections."""
_CROWDED = 0.9
"""Fill of the flows table from which connections are evicted."""


class OpenFlow(NamedTuple):
    """One entry of the flows or midstream table."""

    entry: bytes
    """What the table finds it by."""
    value: bytes
    """struct flow."""
    midstream: bool

    @property
    def key(self) -> bytes:
        """Its 4-tuple (struct flow_key)."""
        return self.value[abi.FLOW_KEY : abi.FLOW_KEY + abi.FLOW_KEY_BYTES]

    @property
    def state(self) -> FlowState:
        """What a sweep decides by."""
        return FlowState(*_FLOW_STATE.unpack_from(self.value))


class FlowState(NamedTuple):
    """Some members of struct flow."""

    last_ns: int
    close: int
    """abi.CLOSE_NONE while it is open."""
    flags: int
    source_slot: int
    """Where the kernel counts the connections of its source."""

    @property
    def closed(self) -> bool:
        """Its end was seen."""
        return self.close != abi.CLOSE_NONE

    @property
    def end_sent(self) -> bool:
        """Its end has reached the ring, or need not be told."""
        return bool(self.flags & abi.FLOW_END_SENT)


class FlowBatch(NamedTuple):
    """Some entries of the flows or midstream table."""

    entries: Batch
    midstream: bool

    def states(self) -> list[tuple[int, int, int, int]]:
        """The members of FlowState, of each."""
        return list(_FLOW_STATE.iter_unpack(self.entries.values))

    def flow(self, number: int) -> OpenFlow:
        """One of them."""
        return OpenFlow(*self.entries.entry(number), self.midstream)


class Tables:
    """Reads and writes the maps; owns none of them. For one thread."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self.deckies = DeckyTables(maps)
        """Who is watched."""
        self._half_open = maps["half_open"]
        self._flows = maps["flows"]
        self._midstream = maps["midstream"]
        self._sources = maps["sources"]
        self._counters = maps["counters"]
        settings = abi.SETTINGS.parse(maps["settings"].lookup(_ZERO))
        self.seed: int = settings.seed
        """Of the kernel's hashes."""
        self.suppressing = bool(settings.dedup)
        """Whether the kernel suppresses what was told."""
        self.syns = Suppression(maps["syn_seen"])
        """By the kernel's signature of a SYN."""
        self.services = Suppression(maps["service_seen"])
        """By service_signature()."""
        self.hellos = Suppression(maps["hello_seen"])
        """By the kernel's signature of a ClientHello."""
        self._midstream_deleted = 0
        self._left: set[int] = set()
        """Slots of sources that had connections at the last recount or were left by one since:
        theirs may be counted too high."""

    def handshake(self, key: bytes, born_ns: int, midstream: bool) -> Handshake | None:
        """The handshake of an open connection; None if it is gone or another took its place."""
        value = self._midstream.lookup(key) if midstream else self._flow(key)
        if value is None or int.from_bytes(value[:8], "little") != born_ns:
            return None
        try:
            return flow_handshake(value)
        except MalformedSample:
            return None

    def suppressed_hello(self, key: bytes, born_ns: int) -> SuppressedHello | None:
        """The hello of an open connection that the kernel hid; None if the connection is gone."""
        value = self._flow(key)
        if value is None or int.from_bytes(value[:8], "little") != born_ns:
            return None
        try:
            return flow_suppressed_hello(value, self.seed)
        except MalformedSample:
            return None

    def open_flows(self) -> Iterator[OpenFlow]:
        """Every connection in the tables; entries may be deleted on the way."""
        for batch in self.flow_batches():
            yield from map(batch.flow, range(batch.entries.size))

    def flow_batches(self) -> Iterator[FlowBatch]:
        """The same in batches: most entries of a large table need not be looked at whole."""
        for entries in self._flows.batches():
            yield FlowBatch(entries, midstream=False)
        for entries in self._midstream.batches():
            yield FlowBatch(entries, midstream=True)

    def unanswered(
        self, sources: Container[bytes], since_ns: int
    ) -> Iterator[tuple[bytes, int, int]]:
        """SYNs since then that got no SYN-ACK, as far as they are kept: key, client, SYN's time.

        `sources` are addresses of 16 bytes and subnets of 8. Others are left out early: after a
        flood the table is full.
        """
        size = self._half_open.key_size
        for batch in self._half_open.batches():
            attempts = _HALF_OPEN.iter_unpack(batch.values)
            for number, (time_ns, answered, client) in enumerate(attempts):
                if answered or time_ns < since_ns:
                    continue
                at = number * size + 16 * (client & 1)
                address = bytes(batch.keys[at : at + 16])
                if address in sources or address[:8] in sources:
                    yield batch.entry(number)[0], client & 1, time_ns

    def take(self, flow: OpenFlow) -> OpenFlow | None:
        """Deletes a connection; as it was then, or None if it is gone or another is in its place.

        Of one that is gone the kernel has told the end.
        """
        table = self._midstream if flow.midstream else self._flows
        value = table.lookup(flow.entry)
        if value is None or value[:8] != flow.value[:8] or not table.delete(flow.entry):
            return None
        taken = flow._replace(value=value)
        if flow.midstream:
            self._midstream_deleted += 1
        else:
            self._left.add(taken.state.source_slot)
        return taken

    def forget(self, batch: FlowBatch, numbers: list[int], slots: Iterable[int]) -> int:
        """Deletes connections of a batch that are ended and told, with the slots of their sources.

        Returns how many were there.

        Without a look at each, unlike take(): a client that completes another handshake from the
        same port between the reading of the batch and this, less than a millisecond, is taken
        for one met in the middle.
        """
        if not numbers:
            return 0
        table = self._midstream if batch.midstream else self._flows
        deleted = table.delete_batch(b"".join(map(batch.entries.key, numbers)))
        if batch.midstream:
            self._midstream_deleted += deleted
        else:
            self._left.update(slots)
        return deleted

    def fill(self, flows: int) -> float:
        """What part of the flows table so many take."""
        return flows / self._flows.max_entries

    def crowd(self, flows: int) -> int:
        """How many of `flows` connections in the flows table are too many."""
        return max(flows - int(_CROWDED * self._flows.max_entries), 0)

    def recount_sources(self, flows: Mapping[int, int]) -> None:
        """Corrects how many connections each source has, given those present by source_slot."""
        for slot in flows.keys() | self._left:
            key = _SLOT.pack(slot)
            value = self._sources.lookup(key)
            if value is None:
                continue
            budget, counted = _SOURCE.unpack(value)
            present = flows.get(slot, 0)
            if counted != present:
                self._sources.update(key, _SOURCE.pack(budget, present))
        self._left = {slot for slot, present in flows.items() if present}

    def counters(self) -> dict[str, int]:
        """struct counters by name, summed over the CPUs."""
        sums = [0] * len(abi.COUNTERS)
        for value in self._counters.lookup_cpus(_ZERO):
            for index, count in enumerate(_COUNTERS.unpack_from(value)):
                sums[index] += count
        return dict(zip(abi.COUNTERS, sums, strict=True))

    def evictions(self, counters: Mapping[str, int]) -> dict[str, int]:
        """What the LRU tables pushed out: inserted - deleted - present, by a sweep of each."""
        half_open = sum(batch.size for batch in self._half_open.batches())
        midstream = sum(batch.size for batch in self._midstream.batches())
        return {
            "half_open_evicted": max(
                counters["half_open_inserts"] - counters["half_open_deletes"] - half_open, 0
            ),
            "midstream_evicted": max(
                counters["midstream_inserts"]
                - counters["midstream_deletes"]
                - self._midstream_deleted
                - midstream,
                0,
            ),
        }

    def _flow(self, key: bytes) -> bytes | None:
        return self._flows.lookup(flow_id(key, self.seed))
