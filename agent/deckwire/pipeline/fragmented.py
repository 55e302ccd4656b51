"""Counts the IP fragments in which connections came, for the field `fragments` of their events."""

from __future__ import annotations

from deckwire.limits import FRAGMENTED_CONNECTIONS, FRAGMENTED_NS
from deckwire.resilience.bounded import Bounded


class FragmentedConnections:
    """Connections with packets that came in fragments, by flow key: bounded in number and time."""

    def __init__(self) -> None:
        self._counts: Bounded[bytes, tuple[int, int]] = Bounded(FRAGMENTED_CONNECTIONS)
        """Fragments so far, and the time of the last ones."""
        self.seen = False
        """Whether any came since the start: most agents never see one, and each event asks."""

    def __len__(self) -> int:
        return len(self._counts)

    def came(self, key: bytes, fragments: int, time_ns: int, *, opens: bool) -> None:
        """Count the fragments of one packet. If it `opens` a connection, the count starts anew."""
        before = 0 if opens else self.count(key, time_ns)
        self._counts.put(key, (before + fragments, time_ns))
        self.seen = True

    def count(self, key: bytes, time_ns: int) -> int:
        """The fragments that a connection has come in so far; 0 if none."""
        found = self._counts.get(key)
        if found is None:
            return 0
        fragments, last_ns = found
        if time_ns - last_ns > FRAGMENTED_NS:
            self._counts.pop(key, None)
            return 0
        return fragments

    def begins(self, key: bytes, time_ns: int) -> None:
        """A connection begins with a packet that came whole: what was counted before is another's.

        Fragments after `time_ns` may have been counted already, because samples wait to be sorted.
        """
        found = self._counts.get(key)
        if found is not None and found[1] < time_ns:
            self._counts.pop(key, None)

    def ended(self, key: bytes) -> None:
        """The connection has ended."""
        self._counts.pop(key, None)
