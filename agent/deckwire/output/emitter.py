"""Deduplication and outputs behind one call: what becomes of an event that was made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

from deckwire.events.dedup import Dedup, Key, Summary
from deckwire.events.event import Event, Headline
from deckwire.resilience.containment import Containment, Where


class Fate(StrEnum):
    """events made = told + deduplicated + dropped."""

    EMITTED = "emitted"
    """At least one output accepted it."""
    SUPPRESSED = "suppressed"
    DROPPED = "dropped"
    """No output had room."""


class Emitter:
    """Decides about each event and counts; never blocks."""

    def __init__(
        self, dedup: Dedup, offer: Callable[[Event], bool], host: str, containment: Containment
    ) -> None:
        self._dedup = dedup
        self._offer = offer
        self._host = host
        self._containment = containment
        self._emitted = self._suppressed = self._dropped = 0
        self.opened: tuple[Key, int] | None = None
        """The dedup window of the event told last and its end: see `window`."""

    @property
    def counts(self) -> dict[Fate, int]:
        """Events by what became of them."""
        return {
            Fate.EMITTED: self._emitted,
            Fate.SUPPRESSED: self._suppressed,
            Fate.DROPPED: self._dropped,
        }

    @property
    def made(self) -> int:
        """Events that came here."""
        return self._emitted + self._suppressed + self._dropped

    def emit(self, event: Event) -> Fate:
        """Tell an event unless its window has told one like it."""
        if self._dedup.admit(event):
            return self._admitted(event)
        self._suppressed += 1
        return Fate.SUPPRESSED

    def emit_new(self, headline: Headline, make: Callable[[], Event]) -> Fate:
        """As `tell`, but the event is made only if its window has told none like it."""
        if self._dedup.admit(headline):
            return self._admitted(make())
        self._suppressed += 1
        return Fate.SUPPRESSED

    def window(self, event: Event | Headline) -> tuple[Key, int] | None:
        """The event's dedup window and its end, in wall-clock time; None if none is open."""
        return self._dedup.window(event)

    def add_suppressed(
        self, window: Key, *, count: int, first_ns: int, last_ns: int, deckies: int
    ) -> None:
        """What the kernel suppressed because of this window: see Dedup.add_suppressed."""
        self._dedup.add_suppressed(
            window, count=count, first_ns=first_ns, last_ns=last_ns, deckies=deckies
        )

    def close_windows(self, now_ns: int, *, all_of_them: bool = False) -> None:
        """Tell what the windows that are over have suppressed."""
        self._sum_up(self._dedup.close() if all_of_them else self._dedup.expired(now_ns), now_ns)

    def crowded(self) -> int | None:
        """When the windows end that are to make room: see Dedup.crowded."""
        return self._dedup.crowded()

    def make_room(self, end_ns: int, now_ns: int) -> None:
        """Evict windows that end by then; emit what they have suppressed."""
        self._sum_up(self._dedup.make_room(end_ns), now_ns)

    def _sum_up(self, summaries: Iterable[Summary], now_ns: int) -> None:
        for summary in summaries:
            with self._containment.during(Where.DUE):
                self.emit(summary.emitted(self._host, now_ns))

    def _admitted(self, event: Event) -> Fate:
        if not self._offer(event):
            self._dropped += 1
            return Fate.DROPPED
        self.opened = self._dedup.emitted(event)
        self._emitted += 1
        return Fate.EMITTED
