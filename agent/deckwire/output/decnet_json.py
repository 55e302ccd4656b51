"""Records that DECNET's ingester reads: one JSON object for each syslog line.

DECNET's collector makes such a record from a line. Deckwire makes it from the line too, so both
agree in every value, also where a line or a value was cut. Only `attacker_ip` is better here:
the collector cuts IPv6 addresses.
"""

from __future__ import annotations

import json
import re

from deckwire.events.event import Event
from deckwire.output.syslog import SyslogFormat

ATTACKER_FIELDS = ("src_ip", "src", "client_ip", "remote_ip", "ip")
"""Fields in which DECNET looks for the attacker, the first one first."""
UNKNOWN = "Unknown"
"""The attacker of a line that has none of these fields."""

_PARAM = re.compile(r' (\w+)="([^"\\]*(?:\\.[^"\\]*)*)"')
_ESCAPED = re.compile(r"\\(.)")
_SECONDS = len("2026-11-24T03:01:26")
_encode = json.JSONEncoder(ensure_ascii=False).encode


class DecnetJsonFormat:
    """Writes records with the keys and values of DECNET's collector. All values are strings."""

    def __init__(self, syslog: SyslogFormat) -> None:
        """`syslog` makes the lines that the records describe."""
        self._syslog = syslog

    def line(self, event: Event) -> bytes:
        """The record of the event's line."""
        return record(self._syslog.line(event))


def record(line: bytes) -> bytes:
    """The record of a line that SyslogFormat has made: no newline, at most four times as long."""
    text = line.decode()
    _, time, decky, service, _, event, data = text.split(" ", 6)
    fields = dict(_PARAM.findall(data))
    if "\\" in data:
        fields = {name: _ESCAPED.sub(r"\1", value) for name, value in fields.items()}
    attacker = next((fields[name] for name in ATTACKER_FIELDS if name in fields), UNKNOWN)
    return _encode(
        {
            "timestamp": time[:_SECONDS].replace("T", " "),
            "decky": decky,
            "service": service,
            "event_type": event,
            "attacker_ip": attacker,
            "fields": fields,
            "msg": "",
            "raw_line": text,
        }
    ).encode()
