"""What is published, and what this worker understands of the others' messages."""

from __future__ import annotations

import json

import pytest

from deckwire.bus.frames import Frame
from deckwire.bus.messages import (
    CONTROL_TOPIC,
    HEALTH_TOPIC,
    Announcement,
    Message,
    StopRequest,
    envelope,
    parse_event,
    traffic_topic,
)

ACT = {"src_decky": "web", "dst_ip": "10.0.0.2", "dst_port": 22}
FOUND = Announcement("web", "10.0.0.2", 22)


def event(topic: str, payload: object) -> Message | None:
    return parse_event(Frame("EVT", topic, json.dumps({"payload": payload}).encode()))


def test_an_envelope() -> None:
    one, two = (json.loads(envelope("a.b", "kind", 1.5, {"x": "y"})) for _ in range(2))
    assert one.pop("id") != two.pop("id")
    assert one == {"v": 1, "topic": "a.b", "type": "kind", "ts": 1.5, "payload": {"x": "y"}}


def test_topics() -> None:
    assert (CONTROL_TOPIC, HEALTH_TOPIC) == ("system.sniffer.control", "system.sniffer.health")
    assert traffic_topic("web-01") == "decky.web-01.traffic"
    assert [traffic_topic(name) for name in ("a.b", "", "a b", "\xe9")] == [None] * 4


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"action": "stop"}, StopRequest()),
        ({"action": "start"}, None),
        ({"action": ["stop"]}, None),
        ({}, None),
        ("stop", None),
        (None, None),
    ],
)
def test_control(payload: object, expected: Message | None) -> None:
    assert event(CONTROL_TOPIC, payload) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, FOUND),
        ({"dst_port": "22"}, FOUND),
        ({"dst_ip": "2001:DB8::0:1"}, Announcement("web", "2001:db8::1", 22)),
        ({"src_decky": 5}, None),
        ({"dst_ip": "web"}, None),
        ({"dst_ip": None}, None),
        ({"dst_port": None}, None),
        ({"dst_port": True}, None),
        ({"dst_port": "x"}, None),
        ({"dst_port": 0}, None),
        ({"dst_port": 65_536}, None),
        ({"dst_port": 22.0}, None),
    ],
)
def test_announcements(change: dict[str, object], expected: Message | None) -> None:
    assert event("orchestrator.traffic.ssh", {**ACT, **change}) == expected


@pytest.mark.parametrize(
    "frame",
    [
        Frame("PUB", CONTROL_TOPIC, b'{"payload": {"action": "stop"}}'),
        Frame("EVT", "system.prober.control", b'{"payload": {"action": "stop"}}'),
        Frame("EVT", CONTROL_TOPIC, b""),
        Frame("EVT", CONTROL_TOPIC, b"[1]"),
        Frame("EVT", CONTROL_TOPIC, b"\xff"),
        Frame("EVT", CONTROL_TOPIC, b'{"a": ' * 100_000),
        Frame("EVT", CONTROL_TOPIC, b'{"a": ' + b"9" * 5_000 + b"}"),
    ],
)
def test_what_means_nothing_here(frame: Frame) -> None:
    assert parse_event(frame) is None
