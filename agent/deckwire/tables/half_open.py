"""The kernel's table of half-open connections: a SYN was seen, the handshake is not complete."""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import chain

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map

_SETS = slice(abi.HALF_OPEN_GROUP_SETS, abi.HALF_OPEN_GROUP_ENTRIES)
_ENTRIES = slice(
    abi.HALF_OPEN_GROUP_ENTRIES,
    abi.HALF_OPEN_GROUP_ENTRIES
    + abi.HALF_OPEN_SETS * abi.HALF_OPEN_WAYS * abi.HALF_OPEN_ENTRY_BYTES,
)


class HalfOpenTable:
    """Reads the map half_open; does not own it. For one thread.

    The map is an array of groups, each with the tags and the entries of its sets: see
    bpf/half_open_table.h.
    """

    def __init__(self, table: Map) -> None:
        self._table = table

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """The flow key and the struct half_open of each half-open connection, by a sweep."""
        size = abi.HALF_OPEN_ENTRY_BYTES
        for group in self._groups():
            entries = group[_ENTRIES]
            for number, tag in enumerate(_tags(group)):
                if tag:
                    entry = entries[number * size : (number + 1) * size]
                    half, rest = entry[: abi.HALF_OPEN_BYTES], entry[abi.HALF_OPEN_BYTES :]
                    yield rest[: abi.FLOW_KEY_BYTES], half

    def size(self) -> int:
        """How many half-open connections are present, by a sweep."""
        return sum(sum(map(bool, _tags(group))) for group in self._groups())

    def unanswered(
        self, sources: Container[bytes], since_ns: int
    ) -> Iterator[tuple[bytes, int, int]]:
        """Half-open connections without a SYN-ACK whose SYN came at `since_ns` or later.

        Gives the flow key, the end that is the client, and the kernel time of the SYN. The map
        evicts entries, so some may be missing. `sources` are addresses of 16 bytes and subnets
        of 8 bytes. Other sources are skipped early, because the map is full after a flood.
        """
        for number in range(self._table.max_entries):
            found = _unanswered(self._group(number), sources, since_ns)
            if not found:
                continue
            # The kernel may have written an entry while it was copied. Then the entry has another
            # generation by now.
            again = _unanswered(self._group(number), sources, since_ns)
            yield from (one[:3] for one in found if one in again)

    def _groups(self) -> Iterator[bytes]:
        return map(self._group, range(self._table.max_entries))

    def _group(self, number: int) -> bytes:
        return self._table.lookup(abi.SLOT.pack(number)) or bytes(abi.HALF_OPEN_GROUP_BYTES)


def _tags(group: bytes) -> Iterator[int]:
    return chain.from_iterable(abi.HALF_OPEN_TAGS.iter_unpack(group[_SETS]))


def _unanswered(
    group: bytes, sources: Container[bytes], since_ns: int
) -> list[tuple[bytes, int, int, int]]:
    """As HalfOpenTable.unanswered() gives them, each with its generation."""
    found = []
    states = abi.HALF_OPEN_STATE.iter_unpack(group[_ENTRIES])
    for tag, (time_ns, answered, client, key, generation) in zip(_tags(group), states, strict=True):
        if not tag or answered or time_ns < since_ns or generation % 2:
            continue
        address = key[16 * (client & 1) : 16 * (client & 1) + 16]
        if address in sources or address[:8] in sources:
            found.append((key, client & 1, time_ns, generation))
    return found
