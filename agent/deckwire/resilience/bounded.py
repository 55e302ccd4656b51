"""A table of bounded size: an entry that has no room makes the oldest one go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """At most `limit` entries; the oldest is evicted, one at a time, and counted.

    The newest entry is the one that was put or refreshed last. A table whose reader refreshes
    what it finds evicts the entry that was least recently used. A table whose reader does not
    evicts the entry that was put first. The whole table is never emptied to make room.

    Values are not None: `get` returns None for what is not there.
    """

    __slots__ = ("_entries", "evicted", "get", "limit", "pop", "refresh")

    get: Callable[[K], V | None]
    """The value of a key, None without one; the entry keeps its age."""
    pop: Callable[[K, None], V | None]
    """Remove an entry: `pop(key, None)` returns its value, None without one."""
    refresh: Callable[[K], None]
    """Make an entry the newest; KeyError without one."""
    limit: int
    evicted: int
    """Entries evicted since the start."""

    def __init__(self, limit: int) -> None:
        """`limit` is the largest number of entries, at least 1."""
        if limit < 1:
            raise ValueError(f"a table of {limit} entries")
        self._entries: OrderedDict[K, V] = OrderedDict()
        self.limit = limit
        self.evicted = 0
        # The dictionary's own methods: a method around each would double the cost of a look-up.
        self.get = self._entries.get
        self.pop = self._entries.pop
        self.refresh = self._entries.move_to_end

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __getitem__(self, key: K) -> V:
        """The value of a key that is there; KeyError without one."""
        return self._entries[key]

    def __iter__(self) -> Iterator[K]:
        """The keys, the oldest first."""
        return iter(self._entries)

    def put(self, key: K, value: V) -> tuple[K, V] | None:
        """Store a value as the newest; the entry that was evicted for it, or None."""
        entries = self._entries
        before = len(entries)
        entries[key] = value
        if len(entries) == before:
            entries.move_to_end(key)
        elif before >= self.limit:
            self.evicted += 1
            return entries.popitem(last=False)
        return None

    def oldest(self) -> V | None:
        """The value that would be evicted next; None of an empty table."""
        for value in self._entries.values():
            return value
        return None

    def values(self) -> Iterator[V]:
        """The values, the oldest first."""
        return iter(self._entries.values())

    def clear(self) -> None:
        """Drop every entry because what they say is no longer true; none counts as evicted."""
        self._entries.clear()
