"""The kernel's tables in memory: what tests of the pipeline need of a map, and no more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator


class MemoryMap:
    """A hash map as `deckwire.kernel.maps.Map` shows it."""

    max_entries = 65_536

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def lookup(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def update(self, key: bytes, value: bytes) -> None:
        self.entries[key] = value

    def delete(self, key: bytes) -> bool:
        return self.entries.pop(key, None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(list(self.entries.items()))


def memory_maps() -> dict[str, MemoryMap]:
    """Every table that is asked for, empty."""
    return defaultdict(MemoryMap)
