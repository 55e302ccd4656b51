"""Events as messages of the bus."""

from __future__ import annotations

import json

from deckwire.events.event import SCHEMA, Event
from deckwire.output.bus_lines import bus_line

NS = 1_790_000_000_250_000_000


def test_all_values_are_strings_and_none_obeys_a_terminal() -> None:
    fields = (("src_ip", "192.0.2.9"), ("window", 5), ("df", True), ("alpn", ("h2", "\x1b[m\n")))
    line = bus_line(Event("tls_session", NS, "web-01", fields))
    assert line is not None
    assert b"\n" not in line
    topic, _, body = line.partition(b" ")
    message = json.loads(body)
    assert topic == b"decky.web-01.traffic"
    assert (message["topic"], message["type"]) == (topic.decode(), "tls_session")
    assert message["ts"] == 1_790_000_000.25
    assert message["payload"] == {
        "src_ip": "192.0.2.9",
        "window": "5",
        "df": "true",
        "alpn": "h2,\\x1b[m\\x0a",
    }


def test_the_stamp_is_in_the_payload() -> None:
    event = Event("tls_session", NS, "web-01", (("a", 1),), sensor="s", event_id="0f" * 16)
    line = bus_line(event)
    assert line is not None
    payload = json.loads(line.partition(b" ")[2])["payload"]
    assert payload == {"a": "1", "sensor": "s", "event_id": "0f" * 16, "schema": str(SCHEMA)}


def test_a_name_with_a_dot_has_no_topic() -> None:
    assert bus_line(Event("tls_session", NS, "web.example", ())) is None
