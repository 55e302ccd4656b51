"""The kernel's table of half-open connections: a SYN was seen, the handshake is not complete."""

from __future__ import annotations

from collections.abc import Container, Iterator

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map


class HalfOpenTable:
    """Reads the map half_open; does not own it. For one thread."""

    def __init__(self, table: Map) -> None:
        self._table = table

    def size(self) -> int:
        """How many half-open connections are present, by a sweep."""
        return sum(batch.size for batch in self._table.batches())

    def unanswered(
        self, sources: Container[bytes], since_ns: int
    ) -> Iterator[tuple[bytes, int, int]]:
        """Half-open connections without a SYN-ACK whose SYN came at `since_ns` or later.

        Gives the flow key, the end that is the client, and the kernel time of the SYN. The map
        evicts entries, so some may be missing. `sources` are addresses of 16 bytes and subnets
        of 8 bytes. Other sources are skipped early, because the map is full after a flood.
        """
        size = self._table.key_size
        client_address = [address.unpack_from for address in abi.ADDRESS]
        for batch in self._table.batches():
            keys = batch.keys
            states = abi.HALF_OPEN_STATE.iter_unpack(batch.values)
            for number, (time_ns, answered, client) in enumerate(states):
                if answered or time_ns < since_ns:
                    continue
                (address,) = client_address[client & 1](keys, number * size)
                if address in sources or address[:8] in sources:
                    yield batch.entry(number)[0], client & 1, time_ns
