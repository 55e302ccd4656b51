"""Scanning: from the kernel's records to events, with the operator's exceptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from deckwire.abi.sources import Glance, ProbeKind, Source
from deckwire.clock import CaptureClock
from deckwire.deckies import Registry, parse_option
from deckwire.events.dedup import Dedup
from deckwire.events.event import Event
from deckwire.events.ignore import IgnoreRules, read_rules
from deckwire.output.emitter import Emitter
from deckwire.pipeline.attribution import Attribution
from deckwire.pipeline.scanning import Scanning
from deckwire.scans.author import Author
from tests.support.emitted import of, one
from tests.support.scanning import ATTACKER, DECKIES, S, packed, source, target
from tests.support.uncontained import Uncontained


class Watching:
    """The scans of records that a test sets, on a clock that it sets."""

    def __init__(self, attribution: Attribution | None = None, targets: int = 5) -> None:
        self.records: list[Source] = []
        self._last: list[Source] = []
        self.reads = 0
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.clock = CaptureClock()
        self.clock.advance(0)
        self.start_ns = self.clock.now_ns()
        uncontained = Uncontained()
        self.scanning = Scanning(
            self._read,
            emitter=Emitter(Dedup(300.0), self._offer, "sensor-1", uncontained),
            clock=self.clock,
            attribution=attribution or Attribution(),
            counts=self.counts,
            containment=uncontained,
            targets=targets,
            idle_ns=900 * S,
        )
        self.scanning.registry = Registry(
            parse_option(f"{address}=web-{n}") for n, address in enumerate(DECKIES)
        )

    def sweep(self, seconds: float, *records: Source) -> None:
        """Sweep so many seconds after the start; the records stay until others are given."""
        if records:
            self.records = [self._shifted(record) for record in records]
        self.clock.advance(round(seconds * S))
        self.scanning.sweep(self.clock.now_ns())

    def _shifted(self, record: Source) -> Source:
        """The record with times after the start of the capture's clock."""
        by = self.start_ns
        return record._replace(
            first_ns=record.first_ns + by,
            last_ns=record.last_ns + by,
            targets=tuple(each._replace(first_ns=each.first_ns + by) for each in record.targets),
        )

    def _read(self, wants: Callable[[Glance], bool]) -> Iterable[Source]:
        self.reads += 1
        changed = [each for each in self.records if each not in self._last]
        given = [each for each in changed if wants(glance(each))]
        self._last = [each for each in self.records if each in given or each not in changed]
        return given

    def _offer(self, event: Event) -> bool:
        self.events.append(event)
        return True


def glance(record: Source) -> Glance:
    return Glance(record.address, record.proven, record.proven, is_news=True)


def ports(*numbers: int, address: str = ATTACKER, decky: str = DECKIES[0]) -> Source:
    return source([target(port, decky) for port in numbers], address)


def rules(*tables: dict[str, Any]) -> IgnoreRules:
    return IgnoreRules(read_rules(list(tables)))


def test_a_scan_from_its_beginning_to_its_end() -> None:
    watching = Watching()
    watching.scanning.note(packed(ATTACKER), Author("masscan", "ip id"))
    watching.sweep(5, ports(*range(5)))
    watching.sweep(10, ports(*range(60)))
    watching.sweep(500)
    watching.sweep(902)
    found = of(watching.events, "scan_summary")
    assert [each["phase"] for each in found] == ["begun", "grown", "ended"]
    assert len({each["scan_id"] for each in found}) == 1
    assert {each["tool"] for each in found} == {"masscan"}
    assert {each["host"] for each in found} == {"sensor-1"}
    assert found[0]["names"] == ("web-0",)
    assert found[0]["first_seen"] == "1970-01-01T00:00:01.000000+00:00"
    assert [each["time_ns"] for each in found] == [5 * S, 10 * S, 902 * S]


def test_the_table_is_not_read_at_each_sweep() -> None:
    watching = Watching()
    for tenth in range(100):
        watching.sweep(tenth / 10)
    assert 8 <= watching.reads <= 11


def test_the_end_of_the_capture_ends_every_scan() -> None:
    watching = Watching()
    watching.sweep(1, ports(22))
    watching.records = [watching._shifted(ports(22, 23, 24))]
    watching.scanning.finish()
    found = one(watching.events, "scan_summary")
    assert (found["phase"], found["ports"]) == ("ended", "22-24")
    assert len(watching.scanning) == 0


def test_suspended_scans_are_not_reported() -> None:
    watching = Watching()
    watching.sweep(5, ports(22))
    watching.scanning.suspend()
    watching.scanning.finish()
    assert watching.events == []


def test_no_targets_no_scans() -> None:
    watching = Watching(targets=0)
    watching.sweep(5, ports(*range(50)))
    watching.scanning.finish()
    assert (watching.reads, watching.events) == (0, [])
    watching.scanning.change(5, 900 * S)
    watching.sweep(10)
    assert len(watching.events) == 1


@pytest.mark.parametrize("lateral", ["emit", "hold", "drop"])
def test_a_scan_by_a_decky(lateral: str) -> None:
    watching = Watching(Attribution(lateral=lateral))
    record = ports(*range(9), address=DECKIES[2])
    watching.sweep(5, record)
    watching.sweep(10)
    assert len(watching.events) == (lateral == "emit")
    assert watching.counts["scans_lateral_left_out"] == (lateral != "emit")


def test_what_this_host_does_is_ignored_if_wanted() -> None:
    watching = Watching()
    watching.scanning.own_addresses = frozenset({packed(ATTACKER)})
    watching.sweep(5, ports(*range(9)))
    assert watching.events == []


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ({"source": ATTACKER}, None),
        ({"source": "203.0.113.0/24", "direction": "inbound"}, None),
        ({"port": "1-9", "protocol": "tcp"}, None),
        ({"destination": DECKIES[0]}, None),
        ({"event": "scan_*"}, None),
        ({"port": "2-3"}, "1,4-9"),
        ({"source": "203.0.113.8"}, "1-9"),
        ({"direction": "lateral"}, "1-9"),
        ({"event": "tcp_*"}, "1-9"),
        ({"protocol": "udp"}, "1-9"),
    ],
)
def test_rules_leave_out_targets_and_sources(table: dict[str, Any], found: str | None) -> None:
    watching = Watching()
    watching.scanning.ignored = rules({**table, "name": "mine"})
    for second in (5, 10, 15):
        watching.sweep(second, ports(*range(1, 10)))
    if found is None:
        assert watching.events == []
    else:
        assert one(watching.events, "scan_summary")["ports"] == found
    assert watching.counts["ignored_rule_mine"] == (found != "1-9")


def test_the_way_to_what_is_ignored_is_ignored_too() -> None:
    watching = Watching()
    watching.scanning.ignored = rules({"port": 22})
    arp = [target(0, decky, protocol=0, kind=ProbeKind.ARP) for decky in DECKIES[:2]]
    watching.sweep(5, source([arp[0], target(22)]))
    watching.sweep(10, source([*arp, target(22)], last_ns=9 * S))
    watching.scanning.finish()
    found = one(watching.events, "scan_summary")
    assert (found["names"], found["targets"]) == (("web-1",), 1)


def test_a_rule_that_is_newer_than_a_scan_holds_for_its_end() -> None:
    watching = Watching()
    watching.sweep(5, ports(*range(9)))
    watching.scanning.ignored = rules({"source": ATTACKER})
    watching.scanning.finish()
    assert [each["phase"] for each in of(watching.events, "scan_summary")] == ["begun"]
    assert watching.counts == {"ignored_rule_1": 1}


def test_a_source_of_which_no_target_is_kept_can_be_ignored() -> None:
    watching = Watching()
    watching.scanning.ignored = rules({"source": ATTACKER})
    watching.sweep(5, source((), probes={ProbeKind.SYN: 50}, lost=50))
    watching.scanning.finish()
    assert watching.events == []
    assert watching.counts == {"ignored_rule_1": 1}


def test_rules_that_change_take_effect() -> None:
    watching = Watching()
    watching.scanning.ignored = rules({"source": ATTACKER})
    watching.sweep(5, ports(*range(9)))
    watching.scanning.ignored = IgnoreRules()
    watching.sweep(10, ports(*range(9))._replace(last_ns=9 * S))
    assert len(watching.events) == 1


def test_a_record_without_probes_is_no_scan() -> None:
    watching = Watching()
    watching.sweep(5, source(()))
    watching.scanning.finish()
    assert watching.events == []
