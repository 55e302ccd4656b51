"""BPF maps in memory, with the operations that tests of the pipeline use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Batch


class MemoryMap:
    """A hash map with the interface of `deckwire.kernel.maps.Map`."""

    max_entries = 65_536

    def __init__(self, key_size: int = 4) -> None:
        self.key_size = key_size
        self.entries: dict[bytes, bytes] = {}

    def lookup(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def update(self, key: bytes, value: bytes) -> None:
        self.entries[key] = value

    def update_batch(self, keys: Sequence[bytes], value: bytes) -> None:
        self.entries.update(dict.fromkeys(keys, value))

    def delete(self, key: bytes) -> bool:
        return self.entries.pop(key, None) is not None

    def delete_batch(self, keys: bytes) -> int:
        size = len(next(iter(self.entries), keys)) or 1
        return sum(self.delete(keys[at : at + size]) for at in range(0, len(keys), size))

    def lookup_cpus(self, key: bytes) -> list[bytes]:
        """As of a per-CPU map, which has no entries here."""
        return []

    def unmap(self) -> None:
        pass

    def mapped(self, first: int, count: int) -> bytes:
        """As of an array, which has no entries here."""
        return b""

    def batches(self) -> Iterator[Batch]:
        return iter([Batch(1, key, value) for key, value in self.entries.items()])


def memory_maps(*, dedup: bool) -> dict[str, MemoryMap]:
    """Return a map for every name; all are empty except the settings."""
    maps: dict[str, MemoryMap] = defaultdict(MemoryMap)
    maps["deckies6"] = MemoryMap(16)
    maps["begun_by_deckies"].max_entries = 0
    settings = abi.SETTINGS.parse(bytes(abi.SETTINGS.sizeof()))
    maps["settings"].update(bytes(4), abi.SETTINGS.build({**settings, "dedup": int(dedup)}))
    return maps
