"""All formats of any event: one harmless line that an independent parser can parse."""

from __future__ import annotations

import json

from deckwire.events.event import Event, Value
from deckwire.output.decnet_json import record
from deckwire.output.ecs import EcsFormat
from deckwire.output.escape import text
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import RELAY_SD_ID, SyslogFormat
from tests.fuzz.feed import Feed
from tests.fuzz.lines import check_harmless, read_json, read_syslog
from tests.support.decnet_lines import check_pair

_SYSLOG = SyslogFormat()
_RELAY = SyslogFormat(sd_id=RELAY_SD_ID)
_JSON = JsonFormat()
_ECS = EcsFormat()


def seeds() -> list[bytes]:
    def value(kind: int, content: bytes) -> bytes:
        return bytes([kind]) + len(content).to_bytes(2, "big") + content

    hostile = ["\n", "\x1b[2J", "\0", '"]\\', "\u202e", "\u2028", "\x85", "日本", "a" * 3_000]
    each = [value(0, part.encode()) for part in hostile]
    kinds = [value(kind, b"\x7f\xf0\0\0\0\0\0\0") for kind in range(5)]
    head = bytes(8) + b"\5decky"
    return [head + each_value for each_value in (*each, *kinds)] + [
        head + b"".join(each) * 3,
        b"\xff" * 8 + b"\2\n\0" + b"".join(kinds),
    ]


def check(data: bytes) -> None:
    feed = Feed(data)
    time_ns = int.from_bytes(feed.take(8), "big", signed=True)
    host = feed.counted().decode("utf-8", "surrogateescape")
    fields: list[tuple[str, Value]] = []
    while feed and len(fields) < 40:
        fields.append((f"f{len(fields)}", _value(feed)))
    event = Event("tls_client_hello", time_ns, host, tuple(fields))
    syslog, relay, document = (form.line(event) for form in (_SYSLOG, _RELAY, _JSON))
    ecs = _ECS.line(event)
    for line in (syslog, relay, document, ecs):
        check_harmless(line)
    assert json.loads(ecs)["@timestamp"] == read_json(document)["ts"]
    if fields:
        check_pair(relay.decode(), record(relay).decode())
    read, of_relay, parsed = read_syslog(syslog), read_syslog(relay), read_json(document)
    assert "]" not in "".join(value for _, value in of_relay.params)
    assert read.timestamp == parsed["ts"]
    params = dict(read.params)
    if "cut" not in params and "cut" not in parsed["fields"]:
        assert list(params) == list(parsed["fields"]) == [name for name, _ in fields]
        for name, value in fields:
            if isinstance(value, str):
                # The formats escape differently, so they cut at different characters.
                cut = params[name].endswith("...")
                assert cut or params[name] == parsed["fields"][name]
            elif isinstance(value, bool | int):
                assert parsed["fields"][name] == value
                assert params[name] == text(value)


def _value(feed: Feed) -> Value:
    kind, content = feed.number(1) % 5, feed.counted(2)
    if kind == 0:
        return content.decode("utf-8", "surrogateescape")
    if kind == 1:
        return int.from_bytes(content[:16], "big", signed=True)
    if kind == 2:
        return int.from_bytes(content[:4], "big") / (1 + len(content))
    if kind == 3:
        return len(content) % 2 == 1
    return tuple(part.decode("utf-8", "surrogateescape") for part in content.split(b","))
