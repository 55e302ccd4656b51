"""Deduplication and outputs behind one call: what becomes of an event that was made."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from deckwire.dedup import Dedup, Key
from deckwire.event import Event


class Fate(Enum):
    """events made = told + deduplicated + dropped."""

    TOLD = "told"
    """At least one output accepted it."""
    DEDUPLICATED = "deduplicated"
    DROPPED = "dropped"
    """No output had room."""


class Teller:
    """Decides about each event and counts; never blocks."""

    def __init__(self, dedup: Dedup, offer: Callable[[Event], bool], host: str) -> None:
        self._dedup = dedup
        self._offer = offer
        self._host = host
        self.counts = dict.fromkeys(Fate, 0)

    @property
    def made(self) -> int:
        """Events that came here."""
        return sum(self.counts.values())

    def tell(self, event: Event) -> Fate:
        """Tell an event unless its window has told one like it."""
        if not self._dedup.admit(event):
            fate = Fate.DEDUPLICATED
        elif self._offer(event):
            self._dedup.told(event)
            fate = Fate.TOLD
        else:
            fate = Fate.DROPPED
        self.counts[fate] += 1
        return fate

    def window(self, event: Event) -> tuple[Key, int] | None:
        """The event's dedup window and its end, in wall-clock time; None if none is open."""
        key, end_ns = self._dedup.window(event), self._dedup.ends_ns(event)
        return None if key is None or end_ns is None else (key, end_ns)

    def add_suppressed(
        self, window: Key, *, count: int, first_ns: int, last_ns: int, deckies: int
    ) -> None:
        """What the kernel suppressed because of this window: see Dedup.add_suppressed."""
        self._dedup.add_suppressed(
            window, count=count, first_ns=first_ns, last_ns=last_ns, deckies=deckies
        )

    def close_windows(self, now_ns: int, *, all_of_them: bool = False) -> None:
        """Tell what the windows that are over have suppressed."""
        summaries = self._dedup.close() if all_of_them else self._dedup.expired(now_ns)
        for summary in summaries:
            self.tell(summary.told(self._host, now_ns))
