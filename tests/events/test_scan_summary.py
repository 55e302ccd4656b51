"""scan_summary: what the event says of a scan."""

from __future__ import annotations

from typing import Any

import pytest

from deckwire.abi.sources import ProbeKind, Source
from deckwire.events.event import Event
from deckwire.events.identity import Identity
from deckwire.events.scan_summary import KINDS, ports_text, scan_event
from deckwire.limits import SCAN_NAMES, SCAN_PORTS, VALUE_BYTES
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import SyslogFormat
from deckwire.scans.author import Author
from deckwire.scans.order import Place
from deckwire.scans.scan import Scan
from deckwire.scans.tracker import Phase, Report
from tests.support.declared import check_declared
from tests.support.event_samples import TIME_NS, params
from tests.support.scanning import ATTACKER, CLOSED, DECKIES, OPEN, S, packed, source, target

NAMES = {packed(address): f"web-{n}" for n, address in enumerate(DECKIES)}


def event(
    record: Source,
    *,
    phase: Phase = Phase.ENDED,
    author: Author | None = None,
    even: bool = True,
) -> Event:
    scan = Scan(record.address, record.first_ns)
    scan.scan_id = "0123456789abcdef"
    scan.take(record, 1 << 16)
    scan.author = author or scan.author
    made = scan_event(
        Report(phase, scan),
        host="sensor-1",
        time_ns=TIME_NS,
        wall_ns=lambda time_ns: time_ns + TIME_NS - S,
        even=even,
        name_of=NAMES.get,
    )
    check_declared([Identity("sensor-1").stamped(made)])
    return made


def fields(*args: Any, **more: Any) -> dict[str, Any]:
    return dict(event(*args, **more).fields)


def test_a_whole_event() -> None:
    targets = [
        target(22, answers=OPEN),
        target(80, answers=CLOSED, first_ns=2 * S),
        *(target(port, first_ns=3 * S) for port in range(8_000, 8_101)),
        target(22, DECKIES[1], answers=OPEN, first_ns=4 * S),
    ]
    record = source(targets, probes={ProbeKind.SYN: 208}, mac=b"\2\0\0\0\0\x1f")
    made = event(
        record,
        phase=Phase.GROWN,
        author=Author("nmap", "window 1024; only an MSS", "Linux", "1024_2_1460_00"),
    )
    assert (made.severity, made.host, made.source, made.fingerprint) == (
        *(4, "sensor-1", ATTACKER),
        None,
    )
    assert params(made) == {
        "src_ip": ATTACKER,
        "src_mac": "02:00:00:00:00:1f",
        "phase": "grown",
        "scan_id": "0123456789abcdef",
        "kinds": "syn",
        "deckies": "2",
        "names": "web-0,web-1",
        "ports": "22,80,8000-8100",
        "targets": "104",
        "ports_exact": "true",
        "probes": "208",
        "first_seen": "2026-11-24T03:01:26.453503+00:00",
        "last_seen": "2026-11-24T03:01:29.453503+00:00",
        "rate": "69.333",
        "order": "sequential",
        "open": "2",
        "closed": "1",
        "silent": "101",
        "open_ports": "22",
        "tool": "nmap",
        "tool_evidence": "window 1024; only an MSS",
        "os": "Linux",
        "ja4t": "1024_2_1460_00",
        "spread": "both",
        "spoofable": "true",
    }


def test_what_is_unknown_is_left_out() -> None:
    ping = target(0, protocol=1, kind=ProbeKind.ICMP_ECHO)
    found = fields(source([ping], proven=True))
    assert {"src_mac", "ports", "rate", "open_ports", "tool", "os", "ja4t", "spread"}.isdisjoint(
        found
    )
    assert (found["order"], found["spoofable"], found["kinds"]) == ("single", False, ("icmp_echo",))


def test_no_rate_over_a_jump_of_the_clock() -> None:
    record = source([target(1), target(2, first_ns=9 * S)])
    assert fields(record)["rate"] == 0.25
    assert "rate" not in fields(record, even=False)


def test_deckies_are_named_up_to_a_bound() -> None:
    many = [target(22, f"192.0.2.{n}") for n in range(10, 60)]
    found = fields(source(many))
    assert found["deckies"] == 50
    assert found["names"] == (*NAMES.values(), *(f"192.0.2.{n}" for n in range(13, 26)))
    assert len(found["names"]) == SCAN_NAMES
    assert found["spread"] == "horizontal"


def tcp(*ports: int) -> list[Place]:
    return [(bytes(16), 6, port) for port in ports]


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ([], ""),
        ([(bytes(16), 1, 0)], ""),
        (tcp(80, 22), "22,80"),
        ([(bytes(16), 17, 53), (bytes(16), 1, 0)], "53"),
        ([*tcp(80, 22), (bytes(16), 17, 53), (bytes(16), 132, 9)], "S:9,T:22,80,U:53"),
    ],
)
def test_ports(places: list[Place], text: str) -> None:
    assert ports_text(places) == text


@pytest.mark.parametrize("protocols", [(6,), (6, 17), (6, 17, 132)])
def test_long_lists_of_ports_are_cut(protocols: tuple[int, ...]) -> None:
    places = [(bytes(16), each, port) for each in protocols for port in range(1, 65_535, 2)]
    text = ports_text(places)
    assert len(text) <= SCAN_PORTS < VALUE_BYTES
    assert text.count("...") == len(protocols)


def test_every_kind_has_a_name() -> None:
    assert set(KINDS) == set(ProbeKind)
    assert len(set(KINDS.values())) == len(KINDS)


def test_the_largest_event_has_room_in_a_line() -> None:
    targets = [
        target(port, f"2001:db8:{n:x}::{port:x}", protocol=protocol, answers=OPEN)
        for n in range(20)
        for protocol in (6, 17, 132)
        for port in range(1, 130, 2)
    ]
    record = source(targets, "2001:db8::9", probes=dict.fromkeys(ProbeKind, 1 << 60))
    made = event(record, author=Author("t" * 99, "e" * 256, "o" * 99, "j" * 99))
    stamped = Identity("s" * 64).stamped(made)
    for line in (JsonFormat().line(stamped), SyslogFormat().line(stamped)):
        assert b"spoofable" in line
        assert b"cut" not in line
