"""Connect scans are found by what a source does; no kernel is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from typing import Any

import pytest

from deckwire.abi.flow_key import ends
from deckwire.connections import connect_scans
from deckwire.connections.connect_scans import Attempt, ConnectScans, Touch, Verdict
from deckwire.deckies import parse_address
from deckwire.limits import SCAN_SERVICES, SCAN_SOURCES, SCAN_TOUCHES
from deckwire.tcp.flow import Ends, FlowRecord, SideRecord

MS, SECOND = 1_000_000, 1_000_000_000
START = 1_000 * SECOND
DECKY, OTHER = "198.51.100.7", "198.51.100.8"
ANSWERED = "connect scan; handshake then reset; no data; services answered "


def packed(address: str) -> bytes:
    parsed = parse_address(address)
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


def between(port: int, source: str = "192.0.2.9", decky: str = DECKY) -> Ends:
    return Ends(packed(source), 40_000 + port % 1_000, packed(decky), port)


def record(after_ns: int = 0, **changes: Any) -> FlowRecord:
    """SYN, SYN-ACK, ACK and RST of end 0, the reset 1 ms after the handshake."""
    whole = FlowRecord(
        born_ns=START + after_ns,
        last_ns=START + after_ns + 51 * MS,
        min_iat_ns=MS,
        max_iat_ns=40 * MS,
        close="rst",
        midstream=False,
        end_sent=True,
        client=0,
        sides=(SideRecord(3, 0, 0), SideRecord(1, 0, 0)),
        rtt_client_us=40_000,
        rtt_server_us=10_000,
        rtt_min_us=None,
    )
    return whole._replace(**changes)


BANNER = {"sides": (SideRecord(4, 0, 0), SideRecord(2, 21, 0))}


def touched(where: Ends, after_ns: int = 0, **changes: Any) -> Touch:
    key = where.client + where.server
    key += where.client_port.to_bytes(2, "big") + where.server_port.to_bytes(2, "big")
    assert ends(key, 0) == where
    found = connect_scans.touch(key, 0, where, record(after_ns, **changes))
    assert found is not None
    return found


def no_attempts(_sources: Container[bytes], _since_ns: int) -> Iterable[Attempt]:
    return ()


def tools(verdicts: Iterable[Verdict]) -> list[tuple[int, str | None]]:
    """The port and the evidence of each verdict."""
    named = []
    for found, tool in verdicts:
        assert tool is None or tool.name == "nmap"
        named.append((found.ends.server_port, None if tool is None else tool.evidence))
    return named


# --- one connection ---


@pytest.mark.parametrize(
    "changes",
    [
        {"close": "fin"},
        {"close": "idle"},
        {"close": ""},
        {"midstream": True},
        {"rtt_client_us": None},
        {"rtt_server_us": None},
        {"last_ns": START + 51 * MS + connect_scans.RESET_NS},
        {"sides": (SideRecord(4, 5, 0), SideRecord(1, 0, 0))},  # the client sent data
        {"sides": (SideRecord(2, 0, 0), SideRecord(2, 0, 0))},  # the server reset it
        {"sides": (SideRecord(4, 0, 0), SideRecord(1, 0, 0))},  # FIN, then the client's reset
        {"sides": (SideRecord(3, 0, 0), SideRecord(2, 0, 0))},  # FIN, the server reset it
        {"sides": (SideRecord(4, 0, 0), SideRecord(3, 21, 0))},  # a banner, the server reset it
    ],
)
def test_other_connections_are_not_touches(changes: dict[str, Any]) -> None:
    assert connect_scans.touch(bytes(36), 0, between(22), record(**changes)) is None


def test_the_time_of_the_handshake_does_not_count() -> None:
    slow = {"rtt_client_us": 900_000, "last_ns": START + 911 * MS}
    assert touched(between(22), **slow).proven
    retransmitted = (SideRecord(4, 0, 1), SideRecord(2, 0, 1))
    assert touched(between(22), sides=retransmitted).proven


def test_a_reset_after_data_of_the_server_proves_nothing() -> None:
    assert not touched(between(22), **BANNER).proven


def test_the_client_may_be_either_end() -> None:
    turned = record(sides=(SideRecord(1, 0, 0), SideRecord(3, 0, 0)))
    assert connect_scans.touch(bytes(36), 1, between(22), turned) is not None
    assert connect_scans.touch(bytes(36), 0, between(22), turned) is None


# --- one source ---


def test_three_services_are_a_scan_and_the_tool_is_named_for_each() -> None:
    scans = ConnectScans(Counter())
    assert scans.take(touched(between(22))) == []
    assert scans.take(touched(between(22, decky=OTHER), MS)) == []
    assert scans.waiting == 2
    verdicts = scans.take(touched(between(80), 2 * MS))
    assert tools(verdicts) == [(22, ANSWERED + "3"), (22, ANSWERED + "3"), (80, ANSWERED + "3")]
    # The tool of what follows is named at once.
    assert tools(scans.take(touched(between(443), SECOND))) == [(443, ANSWERED + "4")]
    assert scans.waiting == 0


def test_one_service_and_others_that_do_not_respond_are_a_scan() -> None:
    scans = ConnectScans(Counter())
    now_ns = START + connect_scans.HOLD_NS + 51 * MS
    scans.take(touched(between(443)))
    attempts = [Attempt(between(port), START) for port in (80, 81, 81)]
    attempts.append(Attempt(between(82, "192.0.2.10"), START))  # of another source
    asked: list[tuple[Container[bytes], int]] = []

    def ask(sources: Container[bytes], since_ns: int) -> Iterable[Attempt]:
        asked.append((sources, since_ns))
        return attempts

    assert list(scans.due(now_ns - 1, ask)) == []
    assert asked == []
    named = tools(scans.due(now_ns, ask))
    assert asked == [({packed("192.0.2.9")}, now_ns - connect_scans.WINDOW_NS)]
    assert named == [(443, ANSWERED + "1; unanswered 2")]


def test_a_verdict_does_not_depend_on_when_it_is_asked_for() -> None:
    """A capture may have no frame for an hour after a scan."""
    scans = ConnectScans(Counter())
    scans.take(touched(between(443)))
    scans.take(touched(between(22, "192.0.2.10"), 2 * SECOND))
    attempts = [Attempt(between(port), START) for port in (80, 81)]
    attempts += [Attempt(between(port, "192.0.2.10"), START - 56 * SECOND) for port in (80, 81)]
    named = tools(scans.due(START + 3_600 * SECOND, lambda _sources, _since_ns: attempts))
    assert named == [(443, ANSWERED + "1; unanswered 2"), (22, None)]


@pytest.mark.parametrize("unanswered", [0, 1])
def test_one_service_is_no_scan(unanswered: int) -> None:
    scans = ConnectScans(Counter())
    scans.take(touched(between(443)))
    attempts = [Attempt(between(80), START)] * unanswered
    assert tools(scans.due(START + 60 * SECOND, lambda _sources, _since_ns: attempts)) == [
        (443, None)
    ]


def test_a_health_check_is_no_scan_however_often_it_comes() -> None:
    scans = ConnectScans(Counter())
    verdicts: list[Verdict] = []
    for second in range(300):
        verdicts += scans.take(touched(between(443), second * SECOND))
        verdicts += scans.due(START + second * SECOND, no_attempts)
    verdicts += scans.due(START + 300 * SECOND, no_attempts, all_of_them=True)
    assert tools(verdicts) == [(443, None)] * 300
    assert [found.record.last_ns for found, _ in verdicts] == sorted(
        found.record.last_ns for found, _ in verdicts
    )


def test_a_touch_of_a_known_service_does_not_wait() -> None:
    scans = ConnectScans(Counter())
    scans.take(touched(between(443)))
    list(scans.due(START + 4 * SECOND, no_attempts))
    assert tools(scans.take(touched(between(443), 5 * SECOND))) == [(443, None)]


def test_clients_that_leave_banners_unread_are_no_scan() -> None:
    scans = ConnectScans(Counter())
    for port in (21, 22, 25, 110):
        assert scans.take(touched(between(port), **BANNER)) == []
    assert tools(scans.due(START + 60 * SECOND, no_attempts)) == [
        (port, None) for port in (21, 22, 25, 110)
    ]


def test_an_unread_banner_counts_together_with_a_reset_but_not_long_after() -> None:
    scans = ConnectScans(Counter())
    scans.take(touched(between(22), **BANNER))
    scans.take(touched(between(25), MS, **BANNER))
    named = tools(scans.take(touched(between(80), 2 * MS)))
    assert named == [(22, ANSWERED + "3"), (25, ANSWERED + "3"), (80, ANSWERED + "3")]
    later = touched(between(22), 10 * SECOND, **BANNER)
    assert tools(scans.take(later)) == [(22, None)]


def test_services_touched_longer_ago_than_the_window_do_not_count() -> None:
    scans = ConnectScans(Counter())
    verdicts: list[Verdict] = []
    for number, port in enumerate((22, 80, 443)):
        verdicts += scans.take(touched(between(port), number * 31 * SECOND))
        verdicts += scans.due(START + number * 31 * SECOND + 10 * SECOND, no_attempts)
    assert tools(verdicts) == [(22, None), (80, None), (443, None)]


def test_a_slow_scan_is_named_from_its_third_service() -> None:
    scans = ConnectScans(Counter())
    verdicts: list[Verdict] = []
    for number, port in enumerate((22, 80, 443)):
        verdicts += scans.take(touched(between(port), number * 15 * SECOND))
        verdicts += scans.due(START + number * 15 * SECOND + 10 * SECOND, no_attempts)
    assert tools(verdicts) == [(22, None), (80, None), (443, ANSWERED + "3")]


def test_an_ipv6_source_is_its_subnet_and_an_ipv4_source_its_address() -> None:
    scans = ConnectScans(Counter())
    for number, port in enumerate((22, 80, 443)):
        six = scans.take(touched(between(port, f"2001:db8:0:1::{number}", "2001:db8::7")))
        four = scans.take(touched(between(port, f"192.0.2.{number}")))
        assert four == []
    assert len(six) == 3
    assert len(scans) == 4


# --- bounds ---


def test_sources_are_bounded_and_the_oldest_is_evicted_with_its_verdict() -> None:
    counts: Counter[str] = Counter()
    scans = ConnectScans(counts)
    verdicts: list[Verdict] = []
    for number in range(SCAN_SOURCES + 2):
        source = f"10.0.{number // 256}.{number % 256}"
        verdicts += scans.take(touched(between(22, source)))
    assert [found.ends.client for found, _ in verdicts] == [packed("10.0.0.0"), packed("10.0.0.1")]
    assert len(scans) == SCAN_SOURCES
    assert counts == {"scan_sources_evicted": 2}


def test_waiting_touches_are_bounded_and_the_oldest_get_their_verdicts() -> None:
    counts: Counter[str] = Counter()
    scans = ConnectScans(counts)
    verdicts: list[Verdict] = []
    for number in range(SCAN_TOUCHES + 1):
        verdicts += scans.take(touched(between(22, "10.0.0.1" if number < 5 else "10.0.0.2")))
    assert tools(verdicts) == [(22, None)] * 5
    assert scans.waiting == SCAN_TOUCHES - 4
    assert counts == {"scan_touches_hurried": 5}


def test_services_are_bounded_and_those_that_respond_count_first() -> None:
    scans = ConnectScans(Counter())
    scans.take(touched(between(1)))
    attempts = [Attempt(between(port), START) for port in range(1_000, 9_000)]
    (named,) = tools(scans.due(START + 4 * SECOND, lambda _sources, _since_ns: attempts))
    assert named == (1, f"{ANSWERED}1; unanswered {SCAN_SERVICES - 1}+")
    (named,) = tools(scans.take(touched(between(2))))
    assert named == (2, f"{ANSWERED}2; unanswered {SCAN_SERVICES - 2}+")
