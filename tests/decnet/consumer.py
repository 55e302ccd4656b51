"""What DECNET makes of events: who is an attacker, and who moved from decky to decky.

Written from what DECNET does with its sniffer's lines. It shares no code with the agent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deckwire.lab import Node
from tests.support.decnet_lines import check_pair, read_whole

Event = dict[str, Any]

READ = frozenset(
    {
        "tcp_syn_fingerprint",
        "tls_client_hello",
        "tls_session",
        "tls_certificate",
        "tcp_flow_timing",
    }
)
"""The events that go to DECNET's files."""
_ATTACKER = ("src_ip", "src", "client_ip", "remote_ip", "ip")
_FINGERPRINTS = ("ja3", "ja4", "resumption", "ja4l_rtt_ms")
"""Fields that DECNET files under the attacker."""


def attacker(event: Event) -> str:
    """The attacker of an event, as DECNET looks it up."""
    return next((event["fields"][name] for name in _ATTACKER if name in event["fields"]), "Unknown")


def events(log: Path, twin: Path) -> list[Event]:
    """The events of DECNET's two files, each line read whole and equal to its record."""
    lines, records = read_whole(log.read_bytes()), read_whole(twin.read_bytes())
    found = []
    for pair in zip(lines, records, strict=True):
        record = check_pair(*pair)
        event = {"event": record["event_type"], "host": record["decky"], "fields": record["fields"]}
        assert record["attacker_ip"] == attacker(event)
        assert event["event"] in READ
        found.append(event)
    return found


def attackers(events: Iterable[Event]) -> set[str]:
    return {attacker(event) for event in events if event["event"] in READ}


def traversals(events: Iterable[Event]) -> dict[str, set[str]]:
    """The attackers that touched more than one decky, with the names of these."""
    touched: dict[str, set[str]] = {}
    for event in events:
        if event["event"] in READ:
            touched.setdefault(attacker(event), set()).add(event["host"])
    return {who: deckies for who, deckies in touched.items() if len(deckies) > 1}


def fingerprints(events: Iterable[Event], who: str) -> set[tuple[str, object]]:
    """What DECNET believes about an attacker's own stack."""
    return {
        (name, str(event["fields"][name]))
        for event in events
        if event["event"] in READ and attacker(event) == who
        for name in _FINGERPRINTS
        if name in event["fields"]
    }


def entry(decky: Node, **more: object) -> dict[str, object]:
    """A decky as the state file has it."""
    services = {"services": ["ssh", "http"], "nmap_os": "linux", "distro": "debian"}
    return {"name": decky.name, "ip": decky.v4, "ipv6": decky.v6, **services, **more}


def write_state(path: Path, deckies: Sequence[object], **config: object) -> None:
    """Write a state file over the old one."""
    document = {"config": {"mode": "macvlan", "deckies": deckies, **config}, "compose_path": "/x"}
    path.write_text(json.dumps(document))
