"""Sample values for events, and readers of their lines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from deckwire.deckies import Decky, Registry, parse_address
from deckwire.events.choices import Choices
from deckwire.events.context import Context, locate
from deckwire.events.event import Event, Value
from deckwire.output.syslog import SyslogFormat
from deckwire.tcp.flow import Ends
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.syn_packet import ACK, SYN, SynPacket
from tests.support.fingerprint_frames import LINUX, syn

TIME_NS = 1_795_489_286_453_503_000
"""2026-11-24T03:01:26.453503."""
MS = 1_000_000

CLIENT, DECKY, OTHER_DECKY = "192.0.2.9", "198.51.100.7", "198.51.100.8"
CLIENT6, DECKY6 = "2001:db8:1::9", "2001:db8:2::7"
REGISTRY = Registry(
    Decky(name, parse_address(address))
    for name, address in (("web-1", DECKY), ("web-2", OTHER_DECKY), ("web-6", DECKY6))
)
CHOICES = Choices()
PLAIN = Choices(ja4plus=False)
"""Without the methods of JA4+."""


def packed(address: str) -> bytes:
    raw = parse_address(address).packed
    return raw if len(raw) == 16 else bytes(10) + b"\xff\xff" + raw


def context(client: str = CLIENT, server: str = DECKY) -> Context:
    found = locate(REGISTRY, Ends(packed(client), 40_000, packed(server), 443))
    assert found is not None
    return found


def synack(**changes: Any) -> SynPacket:
    answer = syn(time_ns=2_400_000, flags=SYN | ACK, ttl=128, window=65_160, options=LINUX)
    return replace(answer, **changes)


def handshake(**changes: Any) -> Handshake:
    """SYN at 0, SYN-ACK 2.4 ms later, ACK after 30.1 ms more."""
    whole = Handshake(syn(ttl=52), synack(), 32_500_000, 1, 2)
    return replace(whole, **changes)


def names(event: Event) -> list[str]:
    return [name for name, _ in event.fields]


def value(event: Event, name: str) -> Value:
    return dict(event.fields)[name]


def params(event: Event, **form: str) -> dict[str, str]:
    """The parameters in the syslog line of an event, parsed as a collector does."""
    line = SyslogFormat(**form).line(event).decode()
    found = re.findall(r' ([a-z0-9_]+)="((?:[^"\\\]]|\\.)*)"', line)
    return {name: re.sub(r'\\(["\\\]])', r"\1", text) for name, text in found}


TAIL = ["direction", "conn_id"]
ADDRESSES = ["src_ip", "src_port", "dst_ip", "dst_port"]
