"""The scans under way, and what is to be reported of them.

A source is in one of three tables: those that completed a handshake, those whose scan has begun,
and the rest. So a flood from forged sources, each with few probes, evicts only its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from deckwire.abi.sources import Glance, Source
from deckwire.limits import (
    SCAN_AUTHORS,
    SCAN_BEGINNINGS,
    SCAN_BEGINNINGS_A_SECOND,
    SCAN_EVENTS,
    SCAN_EVENTS_A_SECOND,
    SCAN_RESTS,
    SCAN_STARTS,
    SCAN_TARGETS_ALL,
    SCANS,
    SCANS_PROVEN,
)
from deckwire.resilience.bounded import Bounded
from deckwire.scans.allowance import Allowance
from deckwire.scans.author import Author
from deckwire.scans.discovery import discovery
from deckwire.scans.scan import Baseline, Scan
from deckwire.tcp.addresses import address_text

_GROWTH = 10
_ID_BYTES = 8
_ANSWER_NS = 30_000_000_000
"""How long after its last probe a record may still get answers."""
_AGAIN_NS = 3_000_000_000
"""Time between two looks at a record that only counts more of the same. It is less than
PROBE_MANY_NS, for which the kernel keeps it."""
_AGAIN_PROVEN_NS = 30_000_000_000
"""The same of a source with a handshake, which the kernel keeps for PROBE_PROVEN_NS."""
_AGAIN_PARTS = 4
"""Both are at most such a part of the time after which a scan ends."""
_YIELD_NS = 60_000_000_000
"""How long a source with a handshake is silent before it makes room for another one. Otherwise
more sources than there is room for would evict each other, with an event each time."""


_YIELDS = 64
"""Sources that make room so at one look, with an event each."""


class Phase(StrEnum):
    """What is reported of a scan."""

    BEGUN = "begun"
    """It has touched enough targets."""
    GROWN = "grown"
    """It has touched ten times as many as it was reported for before."""
    ENDED = "ended"
    """Its source was silent for long enough, or was evicted, or the capture ends."""


class Report(NamedTuple):
    """Something to report of a scan. It is to be used at once, because the scan goes on."""

    phase: Phase
    scan: Scan


class Tracker:
    """Follows the scan of each source. For one thread; times are those of the samples' clock."""

    def __init__(
        self, targets: int, idle_ns: int, wall_ns: Callable[[int], int], counts: Counter[str]
    ) -> None:
        """`wall_ns` gives the wall-clock time of a scan's first probe, which its name is made of.

        Args:
            targets: so many targets make a scan that is reported at once.
            idle_ns: a scan ends when its source is silent for so long.
            wall_ns: converts a time.
            counts: takes what was evicted or not reported, by cause.
        """
        self.targets = targets
        self.idle_ns = idle_ns
        self._wall_ns = wall_ns
        self._counts = counts
        self._starts: Bounded[bytes, Scan] = Bounded(SCAN_STARTS)
        self._begun: Bounded[bytes, Scan] = Bounded(SCANS)
        self._proven: Bounded[bytes, Scan] = Bounded(SCANS_PROVEN)
        self._all = self._starts, self._begun, self._proven
        self._authors: Bounded[bytes, Author] = Bounded(SCAN_AUTHORS)
        self._rests: Bounded[bytes, Baseline] = Bounded(SCAN_RESTS)
        self._asked_ns = -1
        self._promised = 0
        """Sources with a handshake, new ones, that are wanted since `wants` got another time."""
        self._kept_targets = 0
        self._allowance = Allowance(SCAN_EVENTS, SCAN_EVENTS_A_SECOND)
        self._beginnings = Allowance(SCAN_BEGINNINGS, SCAN_BEGINNINGS_A_SECOND)

    def __len__(self) -> int:
        return sum(map(len, self._all))

    @property
    def kept_targets(self) -> int:
        """Targets of all scans."""
        return self._kept_targets

    def scans(self) -> Iterator[Scan]:
        """All scans."""
        for table in self._all:
            yield from table.values()

    def note(self, address: bytes, author: Author) -> None:
        """Take what a SYN packet or a connection of a source shows of it."""
        scan = self._find(address)
        if scan is not None:
            if scan.author != author:
                scan.author = scan.author.joined(author)
            return
        known = self._authors.get(address)
        # Equal SYN packets have one object.
        if known is not None and known is not author:
            author = known.joined(author)
        self._authors.put(address, author)

    def wants(self, glance: Glance, now_ns: int) -> bool:
        """Whether the record of a source is to be read now. Until then it stays in the kernel.

        So the time that a flood takes is bounded: by new sources a second, and by reading what only
        counts more of the same now and then.
        """
        scan = self._find(glance.address)
        if scan is not None and not glance.is_news:
            most_ns = _AGAIN_PROVEN_NS if glance.proven else _AGAIN_NS
            return now_ns - scan.taken_ns >= min(most_ns, self.idle_ns // _AGAIN_PARTS)
        if glance.proven:
            return (scan is not None and scan.proven) or self._has_room_for_proven(now_ns)
        return scan is not None or self._beginnings.take(now_ns, important=glance.strong)

    def take(self, source: Source, now_ns: int) -> list[Report]:
        """Take the record of a source that has changed; what is to be reported now."""
        scan = self._find(source.address)
        rest = None
        if scan is None:
            rest = self._rests.get(source.address)
            if rest is not None and rest.has_all_of(source):
                # It was in a scan that has ended since.
                return []
            scan = self._begin(source, rest)
        elif scan.baseline.has_all_of(source) and now_ns - source.last_ns > _ANSWER_NS:
            return []
        before, was_active_ns = len(scan), scan.last_ns
        scan.taken_ns = now_ns
        scan.take(source, SCAN_TARGETS_ALL - self._kept_targets)
        self._kept_targets += len(scan) - before
        self._learn(scan)
        reports = self._reports(scan)
        evicted = self._place(scan, is_active=scan.last_ns > was_active_ns)
        if evicted is not None:
            self._counts["scans_evicted"] += 1
            self._rest(evicted)
            reports.append(Report(Phase.ENDED, evicted))
        return [report for report in reports if self._is_allowed(report, now_ns)]

    def due(self, now_ns: int, *, all_of_them: bool = False) -> Iterator[Report]:
        """End the scans whose sources have been silent for long enough."""
        for table in self._all:
            while (oldest := table.oldest()) is not None:
                if not all_of_them and now_ns - oldest.last_ns < self.idle_ns:
                    break
                table.pop(oldest.address, None)
                self._rest(oldest)
                report = Report(Phase.ENDED, oldest)
                if self._is_allowed(report, now_ns):
                    yield report

    def restore(self, scan: Scan) -> None:
        """Go on with a scan from before a restart, unless there is no room."""
        room = SCAN_TARGETS_ALL - self._kept_targets
        if len(scan) > room or self._find(scan.address) is not None:
            return
        self._kept_targets += len(scan)
        evicted = self._place(scan, is_active=True)
        if evicted is not None:
            self._counts["scans_evicted"] += 1
            self._rest(evicted)

    def _has_room_for_proven(self, now_ns: int) -> bool:
        """Whether one more source with a handshake has room, with those wanted at this time."""
        if now_ns != self._asked_ns:
            self._asked_ns, self._promised = now_ns, 0
        over = len(self._proven) + self._promised - self._proven.limit
        if over >= 0:
            silent = next(islice(self._proven.values(), over, None), None)
            if over >= _YIELDS or silent is None or now_ns - silent.last_ns < _YIELD_NS:
                return False
        self._promised += 1
        return True

    def _find(self, address: bytes) -> Scan | None:
        for table in self._all:
            scan = table.get(address)
            # One of which no target is kept is false.
            if scan is not None:
                return scan
        return None

    def _begin(self, source: Source, rest: Baseline | None) -> Scan:
        first_ns = source.first_ns
        if rest is not None and rest.first_ns == first_ns:
            new = [each.first_ns for each in source.targets if each.first_ns > rest.last_ns]
            first_ns = min(new, default=source.last_ns)
        scan = Scan(source.address, first_ns)
        if rest is not None and rest.first_ns == source.first_ns:
            scan.begin_after(rest)
        return scan

    def _learn(self, scan: Scan) -> None:
        known = self._authors.pop(scan.address, None)
        if known is not None:
            scan.author = scan.author.joined(known)
        if not scan.author.tool and (found := discovery(scan)) is not None:
            scan.author = scan.author.joined(Author(found.name, found.evidence))

    def _reports(self, scan: Scan) -> list[Report]:
        if not scan.begun:
            if scan.estimate < self.targets:
                return []
            scan.begun, phase, scan.next_growth = True, Phase.BEGUN, self.targets
        elif scan.estimate < scan.next_growth:
            return []
        else:
            phase = Phase.GROWN
        while scan.next_growth <= scan.estimate:
            scan.next_growth *= _GROWTH
        return [Report(phase, scan)]

    def _place(self, scan: Scan, *, is_active: bool) -> Scan | None:
        """Put a scan into the table where it belongs; the one that is evicted for it."""
        right = self._proven if scan.proven else self._begun if scan.begun else self._starts
        if scan.address in right:
            if is_active:
                right.refresh(scan.address)
            return None
        for table in self._all:
            table.pop(scan.address, None)
        evicted = right.put(scan.address, scan)
        return None if evicted is None else evicted[1]

    def _rest(self, scan: Scan) -> None:
        """Take leave of a scan, and remember what of the kernel's record it has had."""
        self._kept_targets -= len(scan)
        self._rests.put(scan.address, scan.baseline)

    def _name(self, scan: Scan) -> None:
        """Give the scan its id, which most of a flood never need."""
        if not scan.scan_id:
            text = f"{address_text(scan.address)} {self._wall_ns(scan.first_ns)}"
            scan.scan_id = blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()

    def _is_allowed(self, report: Report, now_ns: int) -> bool:
        scan = report.scan
        if scan.proven or self._allowance.take(now_ns, important=scan.begun):
            self._name(scan)
            return True
        self._counts["scan_summaries_over_budget"] += 1
        return False
