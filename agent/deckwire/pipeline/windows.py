"""Suppression windows: the kernel counts repeats of an emitted event and does not sample them.

Each is opened because a dedup window is open, and ends with it. The kernel's count belongs to the
summary of that dedup window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from deckwire.clock import Clock
from deckwire.events.dedup import Key
from deckwire.events.event import Event, Headline
from deckwire.events.ignore import Match
from deckwire.output.emitter import Emitter
from deckwire.output.fate import Fate
from deckwire.resilience.containment import Containment, Where
from deckwire.tables.suppression import Suppressed, Suppression
from deckwire.tables.tables import Tables

_IGNORED_NS = 60_000_000_000
"""How long the kernel suppresses what a rule ignores, until the agent looks at it again."""


class IgnoredBy(NamedTuple):
    """The window of what a rule ignores."""

    counter: str


class Windows:
    """The four tables of suppression windows, opened and closed in one sequence."""

    def __init__(
        self,
        tables: Tables,
        emitter: Emitter,
        clock: Clock,
        containment: Containment,
        counts: Counter[str],
    ) -> None:
        self.syns: Suppression[Key | IgnoredBy] = tables.syns
        self.services: Suppression[Key | IgnoredBy] = tables.services
        self.hellos: Suppression[Key | IgnoredBy] = tables.hellos
        self.anomalies: Suppression[Key | IgnoredBy] = tables.anomalies
        self._counts = counts
        self._emitter = emitter
        self._clock = clock
        self._containment = containment

    def emit(
        self,
        table: Suppression[Key | IgnoredBy],
        signature: int,
        time_ns: int,
        headline: Headline,
        make: Callable[[], Event],
        *,
        earlier: Sequence[int] = (),
        may_open: Callable[[], bool] = lambda: True,
    ) -> None:
        """Emit an event, then have the kernel suppress equal ones as long as the dedup does.

        `signature` is the kernel's, 0 for none; `time_ns` is the kernel's time of the event.
        `may_open` is asked before a window is opened. `earlier` are signatures of what comes
        before it in other samples: the kernel suppresses those too, and does not count them.
        """
        if not signature:
            self._emitter.emit_new(headline, make)
            return
        # These come before the dedup window closes, because its summary reports them.
        suppresses = table.suppresses(signature, time_ns)
        if earlier and suppresses:
            suppresses = all(table.suppresses(each, time_ns) for each in earlier)
        if not suppresses:
            self._add(table.close(signature))
        self._add(table.over(time_ns))
        fate = self._emitter.emit_new(headline, make)
        if fate is Fate.DROPPED or not may_open():
            return
        if fate is not Fate.SUPPRESSED:
            opened = self._emitter.opened
        elif suppresses:
            return
        else:
            # The dedup window has another signature, or another signature took over the slot.
            opened = self._emitter.window(headline)
        if opened is not None:
            window, end_ns = opened
            until_ns = time_ns + end_ns - headline.time_ns
            for each in (*earlier, signature):
                self._add(table.open(each, window, until_ns))

    def suppress(
        self,
        table: Suppression[Key | IgnoredBy],
        signature: int,
        time_ns: int,
        deckies: int,
    ) -> bool:
        """Count an event as the kernel does, if its window is open; whether it is.

        `time_ns` is the kernel's time of the event, `deckies` a bit set of hashed deckies.
        """
        window = table.window(signature, time_ns)
        if window is None:
            return False
        self._add((Suppressed(window, 1, time_ns, time_ns, deckies),))
        return True

    def ignore(
        self, table: Suppression[Key | IgnoredBy], signature: int, time_ns: int, match: Match
    ) -> None:
        """Have the kernel suppress what a rule ignores, if all of this signature is ignored.

        What it counts is added to the rule's counter.
        """
        # The signature of a service has its port. A suppressed hello must be known.
        is_all = match.any_port or table is self.services
        if is_all and table is not self.hellos and not table.suppresses(signature, time_ns):
            window = IgnoredBy(match.counter)
            self._add(table.close(signature))
            self._add(table.open(signature, window, time_ns + _IGNORED_NS))

    def look_again(self) -> None:
        """Have the kernel sample what was ignored, because the rules have changed."""
        for table in self._tables():
            with self._containment.during(Where.DUE):
                self._add(table.withdraw_all(lambda window: isinstance(window, IgnoredBy)))

    def withdraw_hello(self, signature: int) -> None:
        """Have the kernel sample ClientHellos of a signature again."""
        self._add(self.hellos.withdraw(signature))

    def close_due(self, now_ns: int) -> None:
        """Close windows that are over by kernel time, emit summaries, and evict if crowded."""
        self._collect(now_ns)
        wall_ns = self._clock.wall_ns(now_ns)
        self._emitter.close_windows(wall_ns)
        end_ns = self._emitter.crowded()
        if end_ns is None:
            return
        until_ns = now_ns + end_ns - wall_ns
        # The kernel's counts decide which windows stay.
        for table in self._tables():
            self._add(table.release(until_ns))
        self._emitter.make_room(end_ns, wall_ns)

    def close_all(self) -> None:
        """Close every window and emit its summary."""
        self._collect(None)
        self._emitter.close_windows(self._clock.wall_ns(self._clock.now_ns()), all_of_them=True)

    def restart(self) -> None:
        """Close every window and emit its summary; the kernel suppresses nothing any more."""
        for table in self._tables():
            with self._containment.during(Where.DUE):
                self._add(table.release(None))
        self._emitter.close_windows(self._clock.wall_ns(self._clock.now_ns()), all_of_them=True)

    def _tables(self) -> tuple[Suppression[Key | IgnoredBy], ...]:
        return self.syns, self.services, self.hellos, self.anomalies

    def _collect(self, now_ns: int | None) -> None:
        for table in self._tables():
            with self._containment.during(Where.DUE):
                self._add(table.over(now_ns))

    def _add(self, found: Iterable[Suppressed[Key | IgnoredBy]]) -> None:
        for suppressed in found:
            if isinstance(suppressed.window, IgnoredBy):
                self._counts[suppressed.window.counter] += suppressed.events
                continue
            self._emitter.add_suppressed(
                suppressed.window,
                count=suppressed.events,
                first_ns=self._clock.wall_ns(suppressed.first_ns),
                last_ns=self._clock.wall_ns(suppressed.last_ns),
                deckies=suppressed.deckies,
                sums=suppressed.sums,
            )
