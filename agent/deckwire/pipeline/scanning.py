"""Scans: has the kernel's records of all sources followed, and their events emitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from deckwire.abi.sources import Glance, Source, Target
from deckwire.clock import Clock
from deckwire.deckies import Registry
from deckwire.events.ignore import IgnoreRules, Traffic
from deckwire.events.scan_summary import scan_event
from deckwire.limits import SCAN_RESTS
from deckwire.output.emitter import Emitter
from deckwire.pipeline.attribution import Attribution
from deckwire.resilience.bounded import Bounded
from deckwire.resilience.containment import Containment, Where
from deckwire.scans.author import Author
from deckwire.scans.order import Place, place
from deckwire.scans.scan import Scan
from deckwire.scans.tracker import Report, Tracker

EVENT = "scan_summary"

_NS = 1_000_000_000
_NO_TARGET = Target(bytes(16), 0, 0, 0, 0, 0)
"""Of a source of which no target is kept."""
_LOOKS = 64
"""Looks at the end of the capture at most, because sources may go on."""
_REST_NS = _NS
"""Time between two looks at the kernel's table at least."""


class Scanning:
    """Follows the scans and emits their events. For one thread."""

    def __init__(
        self,
        read: Callable[[Callable[[Glance], bool]], Iterable[Source]],
        *,
        emitter: Emitter,
        clock: Clock,
        attribution: Attribution,
        counts: Counter[str],
        containment: Containment,
        targets: int,
        idle_ns: int,
    ) -> None:
        """`read` gives the kernel's records of sources that have changed and are wanted now.

        `targets` is 0 if no scan is to be reported.
        """
        self._read = read
        self._emitter = emitter
        self._clock = clock
        self._attribution = attribution
        self._counts = counts
        self._containment = containment
        self._tracker = self._new_tracker(targets, idle_ns)
        self._read_ns = -_REST_NS
        self._counted: Bounded[bytes, int] = Bounded(SCAN_RESTS)
        """Sources that were left out, with the beginning of their records."""
        self.registry = Registry()
        self.ignored = IgnoreRules()
        self.own_addresses: frozenset[bytes] = frozenset()
        """Addresses of this host, in 16 bytes, if what it does is to be ignored."""
        self.note_probed: Callable[[Source, int], None] = lambda _source, _now_ns: None
        """Takes the record of a source that has changed, and when it was read."""

    def __len__(self) -> int:
        return len(self._tracker)

    def change(self, targets: int, idle_ns: int) -> None:
        """Other settings for all that is reported from now on."""
        self._tracker.targets = targets
        self._tracker.idle_ns = idle_ns

    def note(self, address: bytes, author: Author) -> None:
        """Take what a SYN packet or a connection shows of its sender."""
        if self._tracker.targets:
            self._tracker.note(address, author)

    def sweep(self, now_ns: int) -> None:
        """Emit what is due, and look at what the kernel has recorded now and then."""
        if not self._tracker.targets:
            return
        if now_ns - self._read_ns >= _REST_NS:
            self._look(now_ns, lambda glance: self._tracker.wants(glance, now_ns))
        for report in self._tracker.due(now_ns):
            self._emit(report, now_ns)

    def look(self) -> None:
        """Look at all that the kernel has recorded, now."""
        if not self._tracker.targets:
            return
        # One look gives a part of a full table.
        for _ in range(_LOOKS):
            if not self._look(self._clock.now_ns(), lambda _: True):
                break

    def finish(self) -> None:
        """End every scan."""
        self.look()
        now_ns = self._clock.now_ns()
        for report in self._tracker.due(now_ns, all_of_them=True):
            self._emit(report, now_ns)

    def scans(self) -> Iterable[Scan]:
        """The scans under way."""
        return self._tracker.scans()

    def suspend(self) -> None:
        """Leave all scans to another agent: nothing more is reported of them."""
        self._tracker = self._new_tracker(0, 0)

    def restore(self, scans: Iterable[Scan]) -> None:
        """Go on with scans from before a restart."""
        if self._tracker.targets:
            for scan in scans:
                self._tracker.restore(scan)

    def _new_tracker(self, targets: int, idle_ns: int) -> Tracker:
        return Tracker(targets, idle_ns, self._clock.wall_ns, self._counts)

    def _look(self, now_ns: int, wants: Callable[[Glance], bool]) -> bool:
        """Take what has changed and is wanted; whether there was anything."""
        self._read_ns = now_ns
        is_any = False
        for source in self._read(wants):
            is_any = True
            with self._containment.during(Where.SCANS):
                self._take(source, now_ns)
        return is_any

    def _take(self, source: Source, now_ns: int) -> None:
        # A decky that opens connections has a record of its SYNs' numbers, without any probe.
        if not source.probes or source.address in self.own_addresses:
            return
        self.note_probed(source, now_ns)
        is_lateral = source.address in self.registry
        if is_lateral and self._attribution.lateral != "emit":
            # A scan is no single connection that could be held until the bus announces it.
            self._left_out(source, {"scans_lateral_left_out"})
            return
        if self.ignored:
            source, is_left = self._not_ignored(source)
            if not is_left:
                return
        for report in self._tracker.take(source, now_ns):
            self._emit(report, now_ns)

    def _not_ignored(self, source: Source) -> tuple[Source, bool]:
        """The source without the targets that rules ignore, and whether anything is left of it."""
        kept: list[Target] = []
        deckies: set[bytes] = set()
        ignored: set[str] = set()
        for target in source.targets or (_NO_TARGET,):
            counter = self._counter(source.address, place(target))
            if counter is None:
                kept.append(target)
            else:
                ignored.add(counter)
                deckies.add(target.decky)
        if not ignored:
            return source, True
        self._left_out(source, ignored)
        # Its address was resolved for the sake of what is ignored.
        kept = [one for one in kept if one.protocol or one.decky not in deckies]
        return source._replace(targets=tuple(kept)), bool(kept)

    def _counter(self, address: bytes, target: Place) -> str | None:
        """The counter of the rule that ignores a target of a source; None if none does."""
        direction = "lateral" if address in self.registry else "inbound"
        decky, protocol, port = target
        return self.ignored.counter(Traffic(EVENT, address, decky, port, protocol, direction))

    def _left_out(self, source: Source, counters: set[str]) -> None:
        """Count a source once, although its record is read again and again."""
        if self._counted.get(source.address) != source.first_ns:
            self._counted.put(source.address, source.first_ns)
            self._counts.update(counters)

    def _emit(self, report: Report, now_ns: int) -> None:
        scan = report.scan
        if self.ignored and len(scan):
            # The rules may be newer than the scan.
            counters = {self._counter(scan.address, each) for each, _, _ in scan.targets()}
            if None not in counters:
                self._counts.update(filter(None, counters))
                return
        with self._containment.during(Where.SCANS):
            self._emitter.emit(
                scan_event(
                    report,
                    host=self._emitter.host,
                    time_ns=self._clock.wall_ns(now_ns),
                    wall_ns=self._clock.wall_ns,
                    even=self._clock.even(scan.first_ns, scan.last_ns),
                    name_of=self.registry.name_of,
                )
            )
