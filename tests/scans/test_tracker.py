"""Tracker: when something is reported of a scan, and that no flood pushes a real one out."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from ipaddress import IPv4Address
from itertools import compress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deckwire.abi.sources import Glance, ProbeKind, Source
from deckwire.limits import (
    SCAN_BEGINNINGS,
    SCAN_BEGINNINGS_A_SECOND,
    SCAN_EVENTS,
    SCAN_STARTS,
    SCAN_TARGETS_ALL,
    SCANS_PROVEN,
)
from deckwire.scans import tracker as tracking
from deckwire.scans.author import Author
from deckwire.scans.scan import Scan
from deckwire.scans.tracker import Phase, Report, Tracker
from tests.support.scanning import ATTACKER, DECKIES, S, packed, source, target

IDLE_NS = 900 * S


class Following:
    """A tracker, and a copy of what it reports."""

    def __init__(self, targets: int = 5) -> None:
        self.counts: Counter[str] = Counter()
        self.tracker = Tracker(targets, IDLE_NS, lambda time_ns: time_ns, self.counts)
        self.reports: list[tuple[Phase, str, int]] = []
        """Phase, scan and number of targets."""

    def take(self, record: Source, now_ns: int | None = None) -> None:
        now_ns = record.last_ns if now_ns is None else now_ns
        self._keep(self.tracker.take(record, now_ns))

    def end(self, now_ns: int | None = None) -> None:
        self._keep(list(self.tracker.due(now_ns or 0, all_of_them=now_ns is None)))

    def _keep(self, reports: list[Report]) -> None:
        self.reports += [(phase, scan.scan_id, scan.estimate) for phase, scan in reports]

    def phases(self) -> list[Phase]:
        return [phase for phase, _, _ in self.reports]


def ports(count: int, first_ns: int = S, address: str = ATTACKER) -> Source:
    return source([target(port, first_ns=first_ns) for port in range(count)], address)


def test_phases_of_a_scan() -> None:
    follow = Following()
    for count in (1, 4, 5, 49, 50, 51, 499, 700):
        follow.take(ports(count))
    assert follow.phases() == [Phase.BEGUN, Phase.GROWN, Phase.GROWN]
    assert [count for _, _, count in follow.reports] == [5, 50, 700]
    follow.end(S + IDLE_NS - 1)
    assert len(follow.reports) == 3
    follow.end(S + IDLE_NS)
    assert follow.phases()[3:] == [Phase.ENDED]
    assert len({scan_id for _, scan_id, _ in follow.reports}) == 1
    assert len(follow.tracker) == follow.tracker.kept_targets == 0


def test_a_source_below_the_limit_has_one_event() -> None:
    follow = Following()
    follow.take(ports(4))
    follow.end()
    assert follow.phases() == [Phase.ENDED]


def test_a_scan_that_is_large_at_once_has_begun_once() -> None:
    follow = Following()
    follow.take(ports(600))
    follow.take(ports(4_000))
    follow.take(ports(4_096))
    assert [count for _, _, count in follow.reports] == [600]


def test_a_slow_scan_is_one_scan() -> None:
    """A probe a minute for a day; each finds a new record, because the kernel forgot the source."""
    follow = Following()
    for minute in range(1, 1_441):
        now_ns = minute * 60 * S
        follow.end(now_ns)
        probe = target(minute, DECKIES[minute % 3], first_ns=now_ns)
        follow.take(source([probe], first_ns=now_ns))
    follow.end()
    assert follow.phases() == [Phase.BEGUN, Phase.GROWN, Phase.GROWN, Phase.ENDED]
    assert len({scan_id for _, scan_id, _ in follow.reports}) == 1
    assert follow.reports[-1][2] == 1_440


def test_a_source_that_comes_back_has_another_scan() -> None:
    """The kernel's record is the same one and still has the targets of the first."""
    follow = Following()
    first = [target(port) for port in range(6)]
    follow.take(source(first))
    follow.end(S + IDLE_NS)
    for _ in range(3):
        # It is read again and again meanwhile.
        follow.take(source(first), S + IDLE_NS + 9 * S)
    later_ns = 5_000 * S
    again = [target(port, first_ns=later_ns) for port in range(100, 105)]
    follow.take(source([*first, *again]))
    follow.end()
    assert follow.phases() == [Phase.BEGUN, Phase.ENDED, Phase.BEGUN, Phase.ENDED]
    (_, one, _), _, (_, two, count), _ = follow.reports
    assert one != two
    assert count == 5


def test_a_record_that_says_nothing_new_keeps_no_scan_alive() -> None:
    follow = Following()
    record = ports(5)
    for now in range(0, 1_000, 4):
        follow.take(record, S + now * S)
        follow.end(S + now * S)
    assert follow.phases() == [Phase.BEGUN, Phase.ENDED]
    assert len(follow.tracker) == 0


def test_answers_that_come_late_are_taken() -> None:
    follow = Following()
    follow.take(source([target(22)]))
    follow.take(source([target(22, answers=1)]), 5 * S)
    (scan,) = follow.tracker.scans()
    assert len(scan.answered()[0]) == 1


def flood(count: int, first: int = 0, targets: int = 1) -> list[Source]:
    return [ports(targets, address=str(IPv4Address(0x0A000000 + first + n))) for n in range(count)]


def test_a_flood_of_forged_sources_evicts_only_its_own() -> None:
    follow = Following()
    proven = source([target(22)], "198.51.100.1", proven=True)
    follow.take(proven)
    follow.take(ports(5))
    for record in flood(SCAN_STARTS + 100):
        follow.take(record)
    assert follow.counts["scans_evicted"] == 100
    assert {packed(ATTACKER), packed("198.51.100.1")} <= {
        scan.address for scan in follow.tracker.scans()
    }
    assert len(follow.tracker) == SCAN_STARTS + 2


def test_a_source_that_proves_itself_leaves_the_others() -> None:
    follow = Following()
    record = source([target(22)])
    follow.take(record)
    follow.take(record._replace(proven=True))
    for other in flood(SCAN_STARTS + 1):
        follow.take(other)
    assert packed(ATTACKER) in {scan.address for scan in follow.tracker.scans()}


def glance(
    address: str, *, proven: bool = False, strong: bool = False, is_news: bool = True
) -> Glance:
    return Glance(packed(address), proven, strong or proven, is_news)


def test_a_record_that_counts_more_of_the_same_is_read_now_and_then() -> None:
    """Until then it stays in the kernel, which keeps it for longer."""
    for proven, seconds in ((False, 3), (True, 30)):
        follow = Following()
        wants = follow.tracker.wants
        assert wants(glance(ATTACKER, proven=proven), S)
        follow.take(source([target(22)], proven=proven))
        more = glance(ATTACKER, proven=proven, is_news=False)
        assert not wants(more, S + seconds * S - 1)
        assert wants(more, S + seconds * S)
        assert wants(glance(ATTACKER, proven=proven), S + 1)
        # A scan that ends soon is read more often.
        follow.tracker.idle_ns = S
        assert wants(more, S + S // 4)


def test_new_sources_of_a_flood_wait_in_the_kernel() -> None:
    tracker = Following().tracker
    few = [glance(str(IPv4Address(0x0A000000 + n))) for n in range(4 * SCAN_BEGINNINGS)]
    assert sum(tracker.wants(each, S) for each in few) == SCAN_BEGINNINGS // 2
    # The other half is for those with many targets. One that completed a handshake needs none.
    many = [each._replace(strong=True) for each in few]
    assert sum(tracker.wants(each, S) for each in many) == SCAN_BEGINNINGS // 2
    assert tracker.wants(few[0]._replace(proven=True), S)
    assert sum(tracker.wants(each, 2 * S) for each in many) == SCAN_BEGINNINGS_A_SECOND


def test_sources_with_a_handshake_do_not_evict_each_other_again_and_again() -> None:
    follow = Following()
    addresses = [str(IPv4Address(0x0A000000 + n)) for n in range(2 * SCANS_PROVEN)]

    def look(seconds: int) -> None:
        seen = [glance(address, proven=True) for address in addresses]
        # All are asked for before one is taken.
        wanted = [follow.tracker.wants(each, seconds * S) for each in seen]
        for address in compress(addresses, wanted):
            last_ns = min(seconds, 59) * S
            follow.take(source([target(22)], address, last_ns=last_ns, proven=True), seconds * S)

    for seconds in (1, 2, 59):
        look(seconds)
    assert len(follow.tracker) == SCANS_PROVEN
    assert not follow.counts
    assert not follow.reports
    # Those that waited get the room of some that are silent.
    look(119)
    assert len(follow.tracker) == SCANS_PROVEN
    assert follow.phases() == [Phase.ENDED] * 64
    assert follow.counts == {"scans_evicted": 64}


def test_events_of_a_flood_are_bounded_and_counted() -> None:
    follow = Following()
    for record in flood(3 * SCAN_EVENTS):
        follow.take(record)
    follow.end()
    assert len(follow.reports) == SCAN_EVENTS // 2
    assert follow.counts["scan_summaries_over_budget"] == 3 * SCAN_EVENTS - SCAN_EVENTS // 2
    # A scan that has begun has the other half; one that is proven needs none.
    follow.take(ports(5))
    assert follow.phases()[-1:] == [Phase.BEGUN]
    for record in flood(SCAN_EVENTS, first=1 << 20, targets=5):
        follow.take(record)
    before = len(follow.reports)
    follow.take(source([target(p) for p in range(9)], "198.51.100.1", proven=True))
    assert len(follow.reports) == before + 1


def test_a_thousand_scanners_at_once_each_have_their_summaries() -> None:
    follow = Following()
    for targets in (5, 64):
        for record in flood(1_000, targets=targets):
            follow.take(record)
    follow.end()
    found = Counter(follow.phases())
    assert found == {Phase.BEGUN: 1_000, Phase.GROWN: 1_000, Phase.ENDED: 1_000}
    assert not follow.counts


def test_a_forged_source_takes_little_memory() -> None:
    """Of a flood of them, thousands are kept."""
    follow = Following()
    records = flood(1_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for record in records:
            follow.take(record)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(follow.tracker) == 1_000
    assert (after - before) / 1_000 < 800


def test_all_targets_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SCAN_TARGETS_ALL", 100)
    follow = Following()
    for record in flood(20, targets=10):
        follow.take(record)
    assert follow.tracker.kept_targets == 100
    # What finds no room is counted, and the scan is reported all the same.
    assert follow.phases() == [Phase.BEGUN] * 20
    follow.end()
    assert follow.tracker.kept_targets == 0


def test_who_scans_is_known_from_syns_and_connections() -> None:
    follow = Following()
    follow.tracker.note(packed(ATTACKER), Author(os="Linux 3.11 and newer", ja4t="64240_2_1460_7"))
    follow.take(ports(2))
    follow.tracker.note(packed(ATTACKER), Author("masscan", "ip id", "", "1024_00_00_00"))
    follow.take(ports(3))
    follow.tracker.note(packed(ATTACKER), Author("zmap", "ip id 54321", "", "65535_00_00_00"))
    (scan,) = follow.tracker.scans()
    assert scan.author == Author("masscan", "ip id", "Linux 3.11 and newer", "1024_00_00_00")


def test_nmaps_host_discovery_names_it() -> None:
    four = [
        target(0, protocol=1, kind=ProbeKind.ICMP_ECHO),
        target(0, protocol=1, kind=ProbeKind.ICMP_TIMESTAMP),
        target(443),
        target(80, kind=ProbeKind.ACK),
    ]
    both_icmp = four[0]._replace(kinds=four[0].kinds | four[1].kinds)
    for targets, tool in (
        (four, "nmap"),
        ([both_icmp, *four[2:]], "nmap"),
        (four[:3], ""),
        ([four[0], four[1], target(80), target(443, kind=ProbeKind.ACK)], ""),
        ([*four[:3], target(80, DECKIES[1], kind=ProbeKind.ACK)], ""),
    ):
        follow = Following()
        follow.take(source(targets))
        (scan,) = follow.tracker.scans()
        assert scan.author.tool == tool


def test_a_restored_scan_goes_on() -> None:
    before = Following()
    before.take(ports(5))
    (scan,) = before.tracker.scans()
    after = Following()
    after.tracker.restore(scan)
    after.tracker.restore(Scan(packed(ATTACKER), S))
    later = [target(port, first_ns=60 * S) for port in range(10, 60)]
    after.take(source(later, first_ns=60 * S))
    assert after.reports == [(Phase.GROWN, before.reports[0][1], 55)]
    after.end()
    assert after.tracker.kept_targets == 0


Steps = st.lists(
    st.tuples(
        st.integers(0, 5),  # source
        st.integers(0, 40),  # port
        st.integers(1, 400),  # seconds since the step before
        st.booleans(),  # the kernel evicts the record before
        st.integers(0, 3),  # lost touches
        st.booleans(),  # proven
    ),
    max_size=80,
)


@settings(deadline=None)
@given(Steps)
def test_whatever_happens_counts_only_grow_and_every_probe_has_an_author(steps) -> None:  # type: ignore[no-untyped-def]
    follow = Following()
    records: dict[str, Source] = {}
    sent, now_ns = 0, S
    seen: dict[str, tuple[int, int, Phase | None]] = {}
    probes_of_ended = 0

    def check(reports: list[Report]) -> None:
        nonlocal probes_of_ended
        for phase, scan in reports:
            probes, estimate, last = seen.get(scan.scan_id, (0, 0, None))
            assert scan.probes.total() >= probes
            assert scan.estimate >= estimate
            assert last is not Phase.ENDED
            assert (phase is Phase.BEGUN) is (last is None) or phase is Phase.ENDED
            assert len(scan) <= scan.estimate
            assert scan.first_ns <= scan.last_ns <= now_ns
            seen[scan.scan_id] = scan.probes.total(), scan.estimate, phase
            if phase is Phase.ENDED:
                probes_of_ended += scan.probes.total()

    for number, port, seconds, evict, lost, proven in steps:
        now_ns += seconds * S
        check(list(follow.tracker.due(now_ns)))
        address = f"203.0.113.{number}"
        record = records.get(address)
        if record is None or evict:
            record = source((), address, first_ns=now_ns)
        known = any(each.port == port for each in record.targets)
        record = record._replace(
            last_ns=now_ns,
            probes={ProbeKind.SYN: record.probes.get(ProbeKind.SYN, 0) + 1 + lost},
            targets=record.targets if known else (*record.targets, target(port, first_ns=now_ns)),
            targets_lost=record.targets_lost + lost,
            proven=record.proven or proven,
        )
        sent += 1 + lost
        records[address] = record
        for each in records.values():
            check(follow.tracker.take(each, now_ns))
        kept = sum(len(scan) for scan in follow.tracker.scans())
        assert follow.tracker.kept_targets == kept <= SCAN_TARGETS_ALL
    check(list(follow.tracker.due(now_ns, all_of_them=True)))
    assert probes_of_ended == sent
    assert not follow.counts
