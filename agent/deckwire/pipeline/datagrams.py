"""Datagrams that deckies send on their own: has the kernel's record of them looked at in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from deckwire.abi.begun import Begun
from deckwire.resilience.containment import Containment, Where
from deckwire.tables.begun import BegunTable

_REST_NS = 1_000_000_000
"""Time between two looks at the kernel's table at least. Entries stay for 5 s."""


class Datagrams:
    """Passes on what deckies have sent, now and then. For one thread."""

    def __init__(
        self,
        table: BegunTable,
        sent: Callable[[Begun], None],
        counts: Counter[str],
        containment: Containment,
    ) -> None:
        self._table = table
        self._sent = sent
        self._counts = counts
        self._containment = containment
        self._read_ns = -_REST_NS

    def sweep(self, now_ns: int) -> None:
        """Look at the table, unless it was looked at just now."""
        if not 0 <= now_ns - self._read_ns < _REST_NS:
            self._read_ns = now_ns
            self.look()

    def look(self) -> None:
        """Look at the table now."""
        for begun in self._table.changed():
            with self._containment.during(Where.DUE):
                self._sent(begun)
        if self._table.unread:
            self._counts["datagrams_begun_unread"] += self._table.unread
            self._table.unread = 0
