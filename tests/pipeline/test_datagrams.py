"""Datagrams that a decky sends on its own, by replay: events, rules, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from deckwire.captures import Frame
from deckwire.config import Settings
from deckwire.events.event import Event
from deckwire.events.ignore import read_rules
from tests.bpf.test_probes import ICMP, ICMP6, UDP, icmp, sctp, udp
from tests.pipeline.test_pipeline import kernel
from tests.support.bpf_frames import ethernet, ipv4, ipv6
from tests.support.conversation import CLIENT, CLIENT6, DECKY, DECKY6, DECKY_B, SECOND, START_NS
from tests.support.declared import check_declared
from tests.support.emitted import of, one
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

EACH = Settings(dedup_ttl=0.0)
DEDUP = Settings(dedup_ttl=300.0)
SCTP = 132


@pytest.fixture
def lab(lab: ReplayLab) -> Iterator[ReplayLab]:
    lab.scans = True
    yield lab
    lab.scans = False


def sent(at_s: float, payload: bytes, protocol: int = UDP, to: str = CLIENT, by: str = "") -> Frame:
    by = by or (DECKY6 if ":" in to else DECKY)
    if ":" in to:
        data = ethernet(ipv6(payload, by, to, next_header=protocol))
    else:
        data = ethernet(ipv4(payload, by, to, protocol=protocol))
    return Frame(START_NS + round(at_s * SECOND), 1, data, len(data))


def initiated(
    lab: ReplayLab, frames: Iterable[Frame], settings: Settings = EACH
) -> list[dict[str, Any]]:
    events = lab.frames(frames, [DECKY, DECKY_B, DECKY6], settings)
    check_declared([event for event in events if event.name == "decky_initiated"])
    return of(events, "decky_initiated")


ASK, REPLY = udp(40_000, 53), udp(53, 40_000)


@pytest.mark.parametrize(
    ("payload", "protocol", "to", "expected"),
    [
        (ASK, UDP, CLIENT, {"transport": "udp", "dst_port": 53, "src_port": 40_000}),
        (ASK, UDP, CLIENT6, {"transport": "udp", "dst_port": 53, "direction": "outbound"}),
        (ASK, UDP, DECKY_B, {"transport": "udp", "dst_decky": "d-1", "direction": "lateral"}),
        (sctp(9, 2_905), SCTP, CLIENT, {"transport": "sctp", "dst_port": 2_905}),
        (icmp(8), ICMP, CLIENT, {"transport": "icmp", "dst_port": None, "conn_id": None}),
        (icmp(128), ICMP6, CLIENT6, {"transport": "icmpv6", "src_port": None}),
    ],
    ids=["udp", "udp over v6", "udp to a decky", "sctp", "ping", "ping over v6"],
)
def test_a_datagram_of_a_decky_is_reported(
    lab: ReplayLab, payload: bytes, protocol: int, to: str, expected: dict[str, Any]
) -> None:
    (found,) = initiated(lab, [sent(0, payload, protocol, to)])
    assert {name: found.get(name) for name in expected} == expected
    assert (found["src_ip"], found["dst_ip"]) == (DECKY6 if ":" in to else DECKY, to)
    assert (found["host"], found["src_mac"]) == ("d-2" if ":" in to else "d-0", "02:00:00:00:00:02")
    assert found["time_ns"] == START_NS


def test_a_reply_is_none_and_neither_is_the_answer_to_a_decky(lab: ReplayLab) -> None:
    probe = sent(0, ASK, by=CLIENT, to=DECKY)
    frames = [
        probe,
        sent(0.001, REPLY),
        sent(9, ASK, to=CLIENT),
        sent(9.1, REPLY, by=CLIENT, to=DECKY),
    ]
    events = lab.frames(frames, [DECKY], EACH)
    assert [each["dst_port"] for each in of(events, "decky_initiated")] == [53]
    assert one(events, "scan_summary")["probes"] == 1


def test_each_peer_and_port_is_reported_once_a_window(lab: ReplayLab) -> None:
    """What the kernel counts is in the summary: another source port each time."""
    frames = [
        sent(second, udp(40_000 + second, port), to=to)
        for second in range(0, 100, 2)
        for port in (53, 123)
        for to in (CLIENT, DECKY_B)
    ]
    late = [sent(400 + second, udp(41_000 + second, 53)) for second in range(3)]
    with kernel(lab, DEDUP):
        events: list[Event] = lab.frames([*frames, *late], [DECKY, DECKY_B], DEDUP)
    found = [(each["dst_ip"], each["dst_port"]) for each in of(events, "decky_initiated")]
    assert sorted(found) == sorted(
        [(to, port) for to in (CLIENT, DECKY_B) for port in (53, 123)] + [(CLIENT, 53)]
    )
    summaries = [each for each in of(events, "dedup_summary") if each["event"] == "decky_initiated"]
    assert sorted(each["count"] for each in summaries) == [2, 49, 49, 49, 49]


@pytest.mark.parametrize(
    ("rule", "reported"),
    [
        ({"port": 53, "protocol": "udp"}, {123}),
        ({"source": DECKY, "destination": CLIENT, "protocol": "udp"}, set()),
        ({"direction": "outbound"}, set()),
        ({"event": "decky_initiated", "port": "100-200"}, {53}),
        ({"port": 53, "protocol": "tcp"}, {53, 123}),
    ],
)
def test_rules_hold_for_datagrams(lab: ReplayLab, rule: dict[str, Any], reported: set[int]) -> None:
    settings = replace(EACH, ignore=read_rules(rule))
    found = initiated(lab, [sent(0, udp(9, 53)), sent(1, udp(9, 123))], settings)
    assert {each["dst_port"] for each in found} == reported


@pytest.mark.parametrize(("lateral", "reported"), [("emit", 1), ("hold", 1), ("drop", 0)])
def test_what_holds_for_lateral_events_holds_for_datagrams(
    lab: ReplayLab, lateral: str, reported: int
) -> None:
    found = initiated(lab, [sent(0, ASK, to=DECKY_B)], Settings(dedup_ttl=0.0, lateral=lateral))
    assert len(found) == reported


def test_the_decky_is_the_source_of_datagrams_too(lab: ReplayLab) -> None:
    settings = Settings(dedup_ttl=0.0, outbound_source="peer")
    (found,) = initiated(lab, [sent(0, ASK)], settings)
    assert (found["src_ip"], found["dst_ip"]) == (DECKY, CLIENT)
