"""The messages of the bus: what is published, and what is understood of the others' messages."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple

from deckwire.bus.frames import Frame, is_topic

NAME = "sniffer"
"""The name of this worker, in the words of DECNET."""
HEALTH_TOPIC = f"system.{NAME}.health"
CONTROL_TOPIC = f"system.{NAME}.control"
ORCHESTRATOR_PATTERN = "orchestrator.traffic.*"
_ORCHESTRATOR = "orchestrator.traffic."

_PORTS = 65_536


class Announcement(NamedTuple):
    """DECNET's orchestrator has let one decky talk to another."""

    decky: str
    """Name of the decky that opened the connection."""
    address: str
    """Address of the decky that was addressed, in its usual text."""
    port: int


class StopRequest(NamedTuple):
    """This worker is to end."""


Message = Announcement | StopRequest


def traffic_topic(decky: str) -> str | None:
    """The topic for events of a decky; None for a name that cannot be a part of one."""
    topic = f"decky.{decky}.traffic"
    return topic if "." not in decky and is_topic(topic) else None


def envelope(topic: str, kind: str, time_s: float, payload: Mapping[str, object]) -> bytes:
    """The body of a message: one JSON object."""
    message = {
        "v": 1,
        "id": secrets.token_hex(16),
        "topic": topic,
        "type": kind,
        "ts": time_s,
        "payload": payload,
    }
    return json.dumps(message, separators=(",", ":")).encode()


def parse_event(frame: Frame) -> Message | None:
    """What a frame of the server means to this worker; None if nothing.

    Anybody in DECNET's group can write to the bus, so each value is checked.
    """
    if frame.verb != "EVT":
        return None
    try:
        document = json.loads(frame.body)
    except (ValueError, RecursionError):
        return None
    payload = document.get("payload") if isinstance(document, dict) else None
    if not isinstance(payload, dict):
        return None
    if frame.argument == CONTROL_TOPIC:
        return StopRequest() if payload.get("action") == "stop" else None
    if frame.argument.startswith(_ORCHESTRATOR):
        return _announcement(payload)
    return None


def _announcement(payload: Mapping[str, object]) -> Announcement | None:
    decky, address, port = (payload.get(key) for key in ("src_decky", "dst_ip", "dst_port"))
    if not isinstance(decky, str) or not isinstance(address, str):
        return None
    if isinstance(port, bool) or not isinstance(port, int | str):
        return None
    try:
        number = int(port)
        usual = str(ip_address(address))
    except ValueError:
        return None
    return Announcement(decky, usual, number) if 0 < number < _PORTS else None
