"""A cache bounded in entries and in bytes, for things whose size a peer chooses."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_LARGEST = 16
"""The part of all bytes that one value may take: one in so many."""


class SizedCache(Generic[K, V]):
    """Values by key; the one not asked for longest makes room. For one thread."""

    def __init__(self, entries: int, held: int) -> None:
        """`entries` and `held` are the most values, and bytes of all values, that are kept."""
        self._entries = entries
        self._bytes = held
        self._held = 0
        self._known: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def held(self) -> int:
        """Bytes that all values take, as they were said to."""
        return self._held

    def get(self, key: K) -> V | None:
        """The value kept for a key."""
        known = self._known
        found = known.get(key)
        if found is None:
            return None
        known.move_to_end(key)
        return found[0]

    def pop(self, key: K) -> V | None:
        """The value kept for a key, which is kept no longer."""
        found = self._known.pop(key, None)
        if found is None:
            return None
        self._held -= found[1]
        return found[0]

    def keep(self, key: K, value: V, size: int) -> bool:
        """Keep a value of `size` bytes; False if it is too large, then the key has none."""
        before = self._known.pop(key, None)
        if before is not None:
            self._held -= before[1]
        if size > self._bytes // _LARGEST:
            return False
        self._known[key] = value, size
        self._held += size
        while len(self._known) > self._entries or self._held > self._bytes:
            _, (_, gone) = self._known.popitem(last=False)
            self._held -= gone
        return True
