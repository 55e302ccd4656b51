"""Records for DECNET's ingester."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.event import STAMP, Block, Event, Field
from deckwire.limits import LINE_BYTES, VALUE_BYTES
from deckwire.output.decnet_json import DecnetJsonFormat, record
from deckwire.output.syslog import RELAY_SD_ID, SyslogFormat
from tests.support.decnet_lines import check_pair, parse_record

SYSLOG = SyslogFormat(sd_id=RELAY_SD_ID)
S = 1_000_000_000

values = st.one_of(
    st.text(max_size=60),
    st.text('"\\]\n= [a', max_size=20),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.lists(st.text(max_size=9), max_size=3).map(tuple),
)
fields = st.lists(
    st.tuples(st.sampled_from(["src_ip", "sni", "alpn", "n", "ja4_r", "cut"]), values), max_size=8
)


def event(parts: list[Field], host: str = "web-1") -> Event:
    return Event("tls_session", 1_764_000_000 * S, host, tuple(parts), 4)


def test_a_record_has_what_the_collector_makes_of_its_line() -> None:
    made = event([("src_ip", "192.0.2.1"), ("src_port", 4711), ("sni", 'a"b]\\c'), ("hrr", True)])
    document = json.loads(DecnetJsonFormat(SYSLOG).line(made))
    assert document == {
        "timestamp": "2025-11-24 16:00:00",
        "decky": "web-1",
        "service": "sniffer",
        "event_type": "tls_session",
        "attacker_ip": "192.0.2.1",
        "fields": {
            "src_ip": "192.0.2.1",
            "src_port": "4711",
            "sni": 'a"b\\x5d\\c',
            "hrr": "true",
        },
        "msg": "",
        "raw_line": SYSLOG.line(made).decode(),
    }


def test_an_ipv6_address_is_whole() -> None:
    for address in ("2001:db8::c:1", "2001:db8::14", "fe80::1"):
        document = json.loads(record(SYSLOG.line(event([("src_ip", address)]))))
        assert document["attacker_ip"] == document["fields"]["src_ip"] == address


def test_an_event_without_an_address_has_no_attacker() -> None:
    assert json.loads(record(SYSLOG.line(event([("decky_ip", "192.0.2.9")]))))["attacker_ip"] == (
        "Unknown"
    )
    assert json.loads(record(SYSLOG.line(event([]))))["fields"] == {}


def test_the_first_address_field_is_the_attacker() -> None:
    made = event([("remote_ip", "192.0.2.2"), ("src_ip", "192.0.2.1")])
    assert json.loads(record(SYSLOG.line(made)))["attacker_ip"] == "192.0.2.1"


def test_a_cut_line_and_its_record_agree() -> None:
    made = event([(f"f{number}", "\\" * VALUE_BYTES) for number in range(9)])
    line = SYSLOG.line(made)
    twin = record(line)
    assert len(line) <= LINE_BYTES
    assert len(twin) <= 4 * LINE_BYTES
    assert check_pair(line.decode(), twin.decode())["fields"]["cut"] == "true"


@given(fields, st.text(max_size=20), st.integers(-S, 2**62))
def test_any_event_makes_a_line_and_a_record_that_agree(
    parts: list[Field], host: str, time_ns: int
) -> None:
    made = event(parts, host)._replace(
        time_ns=time_ns, parts=(("src_ip", "192.0.2.1"), Block(parts))
    )
    line = SYSLOG.line(made)
    twin = record(line)
    assert b"\n" not in twin
    assert len(twin) <= 4 * len(line)
    assert twin == DecnetJsonFormat(SYSLOG).line(made)
    check_pair(line.decode(), twin.decode())


def test_the_stamp_is_read_back_from_a_cut_line_too() -> None:
    for parts in ([("n", 1)], [(f"f{number}", "v" * VALUE_BYTES) for number in range(9)]):
        line = SYSLOG.line(event(parts)._replace(sensor="s]", event_id="0f" * 16))
        fields = check_pair(line.decode(), record(line).decode())["fields"]
        assert list(fields)[-3:] == list(STAMP)
        assert fields["event_id"] == "0f" * 16


def test_any_headers_are_read_back() -> None:
    syslog = SyslogFormat(app_name="[x]", sd_id="relay@55555")
    document = parse_record(DecnetJsonFormat(syslog).line(event([("a", 1)], "we]b")).decode())
    assert (document["decky"], document["service"]) == ("we]b", "[x]")
    assert document["fields"] == {"a": "1"}
