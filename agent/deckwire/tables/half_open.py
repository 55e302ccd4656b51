"""The kernel's table of half-open connections: a SYN was seen, the handshake is not complete."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import chain

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map


class HalfOpenTable:
    """Reads the maps half_open and half_open_sets; owns neither. For one thread.

    Both are arrays of groups. One has the entries of a group, the other the tags of its sets: see
    bpf/half_open_table.h.
    """

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._entries = maps["half_open"]
        self._sets = maps["half_open_sets"]

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """The flow key and the struct half_open of each half-open connection, by a sweep."""
        size = abi.HALF_OPEN_ENTRY_BYTES
        for group in range(self._entries.max_entries):
            entries = self._entries_of(group)
            for number, tag in enumerate(self._tags_of(group)):
                if tag:
                    entry = entries[number * size : (number + 1) * size]
                    half, rest = entry[: abi.HALF_OPEN_BYTES], entry[abi.HALF_OPEN_BYTES :]
                    yield rest[: abi.FLOW_KEY_BYTES], half

    def size(self) -> int:
        """How many half-open connections are present, by a sweep."""
        groups = range(self._sets.max_entries)
        return sum(sum(map(bool, self._tags_of(group))) for group in groups)

    def unanswered(
        self, sources: Container[bytes], since_ns: int
    ) -> Iterator[tuple[bytes, int, int]]:
        """Half-open connections without a SYN-ACK whose SYN came at `since_ns` or later.

        Gives the flow key, the end that is the client, and the kernel time of the SYN. The map
        evicts entries, so some may be missing. `sources` are addresses of 16 bytes and subnets
        of 8 bytes. Other sources are skipped early, because the map is full after a flood.
        """
        for group in range(self._entries.max_entries):
            found = self._unanswered_of(group, sources, since_ns)
            if not found:
                continue
            # The kernel may have written an entry while it was copied. Then the entry has another
            # generation by now.
            again = self._unanswered_of(group, sources, since_ns)
            yield from (one[:3] for one in found if one in again)

    def _unanswered_of(
        self, group: int, sources: Container[bytes], since_ns: int
    ) -> list[tuple[bytes, int, int, int]]:
        """Those of a group as unanswered() gives them, each with its generation."""
        found = []
        states = abi.HALF_OPEN_STATE.iter_unpack(self._entries_of(group))
        tags = self._tags_of(group)
        for tag, (time_ns, answered, client, key, generation) in zip(tags, states, strict=True):
            if not tag or answered or time_ns < since_ns or generation % 2:
                continue
            address = key[16 * (client & 1) : 16 * (client & 1) + 16]
            if address in sources or address[:8] in sources:
                found.append((key, client & 1, time_ns, generation))
        return found

    def _entries_of(self, group: int) -> bytes:
        return self._entries.lookup(abi.SLOT.pack(group)) or bytes(abi.HALF_OPEN_ENTRIES_BYTES)

    def _tags_of(self, group: int) -> Iterator[int]:
        sets = self._sets.lookup(abi.SLOT.pack(group)) or bytes(abi.HALF_OPEN_SETS_BYTES)
        return chain.from_iterable(abi.HALF_OPEN_TAGS.iter_unpack(sets))
