"""One call for everything that happens to an event: deduplicate it, offer it, count it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deckwire.events.dedup import Dedup, Key, Summary
from deckwire.events.event import Event, Headline
from deckwire.events.identity import Identity
from deckwire.output.fate import Fate
from deckwire.resilience.containment import Containment, Where
from deckwire.tcp.flow import FlowSums


class Emitter:
    """Decides about each event and counts what it decided. It never blocks."""

    def __init__(
        self,
        dedup: Dedup,
        offer: Callable[[Event], bool],
        host: str,
        containment: Containment,
        wants: Callable[[Event | Headline], bool] | None = None,
        sensor: str | None = None,
    ) -> None:
        """`offer` hands an event to the outputs; it returns whether one of them took it.

        `host` is the HOSTNAME of summaries. `wants` is asked before whether there is an
        output for such an event; None if there always is. `sensor` names this agent in all
        events; None: `host` does.
        """
        self._dedup = dedup
        self._offer = offer
        self.wants = wants
        """What `wants` says; it may be replaced."""
        self.host = host
        """HOSTNAME of events that are about no single decky."""
        self._stamped = Identity(sensor or host).stamped
        self._containment = containment
        self._emitted = self._filtered = self._dropped = 0
        self.opened: tuple[Key, int] | None = None
        """The dedup window of the last event emitted or filtered, and its end: see `window`."""

    @property
    def counts(self) -> dict[Fate, int]:
        """Events by what became of them."""
        return {
            Fate.EMITTED: self._emitted,
            Fate.SUPPRESSED: self._dedup.counters.suppressed,
            Fate.FILTERED: self._filtered,
            Fate.DROPPED: self._dropped,
        }

    @property
    def made(self) -> int:
        """Events that were to be emitted."""
        return sum(self.counts.values())

    def emit(self, event: Event) -> Fate:
        """Emit an event, unless an equal one was emitted within its dedup window."""
        return self.emit_new(event, lambda: event)

    def emit_new(self, headline: Event | Headline, make: Callable[[], Event]) -> Fate:
        """Emit the event that `make` makes. It is not made if nobody would get it."""
        if not self._dedup.admit(headline):
            return Fate.SUPPRESSED
        if self.wants is not None and not self.wants(headline):
            # With a window, the kernel side need not send its equals either.
            self.opened = self._dedup.emitted(headline)
            self._filtered += 1
            return Fate.FILTERED
        if not self._offer(self._stamped(make())):
            self._dropped += 1
            return Fate.DROPPED
        self.opened = self._dedup.emitted(headline)
        self._emitted += 1
        return Fate.EMITTED

    def window(self, event: Event | Headline) -> tuple[Key, int] | None:
        """The event's dedup window and its end in wall-clock nanoseconds; None if none is open."""
        return self._dedup.window(event)

    def add_suppressed(
        self,
        window: Key,
        *,
        count: int,
        first_ns: int,
        last_ns: int,
        deckies: int,
        sums: FlowSums | None = None,
    ) -> None:
        """Add what the kernel suppressed because of this window: see Dedup.add_suppressed."""
        self._dedup.add_suppressed(
            window, count=count, first_ns=first_ns, last_ns=last_ns, deckies=deckies, sums=sums
        )

    def close_windows(self, now_ns: int, *, all_of_them: bool = False) -> None:
        """Emit a summary for each window that is over and has suppressed something."""
        self._sum_up(self._dedup.close() if all_of_them else self._dedup.expired(now_ns), now_ns)

    def crowded(self) -> int | None:
        """The end of the windows that are to make room: see Dedup.crowded."""
        return self._dedup.crowded()

    def make_room(self, end_ns: int, now_ns: int) -> None:
        """Evict windows that end by then; emit what they have suppressed."""
        self._sum_up(self._dedup.make_room(end_ns), now_ns)

    def _sum_up(self, summaries: Iterable[Summary], now_ns: int) -> None:
        for summary in summaries:
            with self._containment.during(Where.DUE):
                self.emit(summary.emitted(self.host, now_ns))
