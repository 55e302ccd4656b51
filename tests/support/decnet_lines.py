"""Stands in for DECNET's collector and ingester: how they read a line and a record.

Written from the contract of DECNET's files, not from its code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from deckwire.events.event import Event
from deckwire.output.decnet_json import record
from deckwire.output.syslog import RELAY_SD_ID, SyslogFormat

LINE = re.compile(r"^<\d+>1 (\S+) (\S+) (\S+) \S+ (\S+) (.+)$")
"""The collector's: time, host, application, message id and the rest."""
CORRELATED = re.compile(r"^<\d+>1 (\S+) (\S+) (\S+) - (\S+) (.+)$")
"""The correlation engine's, which demands that there is no PROCID."""
DATA = re.compile(r"\[relay@55555\s+(.*?)\]")
"""Structured data: the first bracket ends it."""
PARAM = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPED = re.compile(r"\\(.)")
ATTACKER = ("src_ip", "src", "client_ip", "remote_ip", "ip")
KEYS = {
    "timestamp": str,
    "decky": str,
    "service": str,
    "event_type": str,
    "attacker_ip": str,
    "fields": dict,
    "msg": str,
    "raw_line": str,
}
"""Every key of a record, with its type."""


def parse_line(line: str) -> dict[str, Any]:
    """The record that the collector makes of a line; AssertionError if it cannot read it whole.

    An IPv6 address is kept whole here, although the collector cuts it.
    """
    header = LINE.match(line)
    assert header, line
    assert CORRELATED.match(line), line
    time, host, application, event, rest = header.groups()
    data = DATA.search(rest)
    assert data, line
    assert data[0] == rest, f"it stops within {rest}"
    fields = {name: ESCAPED.sub(r"\1", value) for name, value in PARAM.findall(data[1])}
    left = PARAM.sub("", data[1]).strip()
    assert not left, f"it skips {left}"
    return {
        "timestamp": datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M:%S"),
        "decky": host,
        "service": application,
        "event_type": event,
        "attacker_ip": next((fields[name] for name in ATTACKER if name in fields), "Unknown"),
        "fields": fields,
        "msg": "",
        "raw_line": line,
    }


def parse_record(text: str) -> dict[str, Any]:
    """A record of the twin; AssertionError if the ingester would reject or misread it."""
    document = json.loads(text)
    assert isinstance(document, dict)
    assert {key: type(value) for key, value in document.items()} == KEYS
    for name, value in document["fields"].items():
        assert type(value) is str, (name, value)
    datetime.strptime(document["timestamp"], "%Y-%m-%d %H:%M:%S")
    return document


def read_whole(content: bytes) -> list[str]:
    """The lines of a file; AssertionError if the last one is not whole."""
    assert not content or content.endswith(b"\n")
    return content.decode().split("\n")[:-1]


def check_pair(line: str, twin: str) -> dict[str, Any]:
    """Check a line of the log and its record; return the record."""
    read = parse_record(twin)
    assert read == parse_line(line)
    return read


def check_events(events: Iterable[Event]) -> None:
    """Check that the lines and records of events are read whole, with the source as attacker."""
    form = SyslogFormat(sd_id=RELAY_SD_ID)
    for event in events:
        line = form.line(event)
        read = check_pair(line.decode(), record(line).decode())
        assert read["attacker_ip"] == (event.source or "Unknown")
