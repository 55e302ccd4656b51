"""Lines of Elastic Common Schema: every name is in its list, whatever a peer sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire import __version__
from deckwire.events.capture import stats_events
from deckwire.events.catalogue import CATALOGUE
from deckwire.events.declaration import Declared, Type
from deckwire.events.event import SCHEMA, Event
from deckwire.events.identity import Identity
from deckwire.events.turned import NAMES, RENAMED, turned
from deckwire.limits import LINE_BYTES
from deckwire.output.ecs import EcsFormat
from tests.support.ecs import USED_BY_OTHERS, check_ecs, ecs_fields, flat

TIME_NS = 1_795_489_286_453_503_999
ENDS = (
    ("src_ip", "192.0.2.9"),
    ("src_port", 40_000),
    ("dst_ip", "198.51.100.7"),
    ("dst_port", 443),
)
TAIL = (("direction", "inbound"), ("conn_id", "1:x"))
SHA256 = "0123456789abcdef" * 4
TEXT = st.text(st.characters(codec=None), max_size=60)


def event(name: str, *fields: Any, **more: Any) -> Event:
    made = Event(name, TIME_NS, "web-1", (*ENDS, *fields, *TAIL), source="192.0.2.9", **more)
    return Identity("sensor-1").stamped(made)


def line(made: Event) -> dict[str, Any]:
    check_ecs([made])
    found: dict[str, Any] = json.loads(EcsFormat().line(made))
    return found


def outbound(made: Event) -> Event:
    """The event of a connection that a decky opened, with the peer as source."""
    return turned(made, outbound=True, is_reversed=False)


def test_the_whole_line() -> None:
    fields = (
        *(("ja3s", "0a" * 16), ("ja4s", "t13"), ("tls_version", "TLS 1.3"), ("ja3", "0b" * 16)),
        *(("ja4", "t13d"), ("sni", "www.example.com"), ("alpn", ("h2", "http/1.1"))),
        *(("cipher", "TLS_AES_128_GCM_SHA256"), ("resumed", False)),
    )
    made = event("tls_session", *fields, severity=4)
    assert line(made) == {
        "@timestamp": "2026-11-24T03:01:26.453503+00:00",
        "ecs": {"version": "8.11.0"},
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", "protocol"],
            "module": "deckwire",
            "dataset": "deckwire.tls_session",
            "action": "tls_session",
            "severity": 4,
            "id": made.event_id,
        },
        "observer": {
            "type": "sensor",
            "product": "Deckwire",
            "version": __version__,
            "name": "sensor-1",
        },
        "source": {"ip": "192.0.2.9", "port": 40_000},
        "destination": {"ip": "198.51.100.7", "port": 443, "domain": "www.example.com"},
        "client": {"ip": "192.0.2.9", "port": 40_000},
        "server": {"ip": "198.51.100.7", "port": 443, "domain": "www.example.com"},
        "network": {
            "direction": "inbound",
            "community_id": "1:x",
            "transport": "tcp",
            "type": "ipv4",
            "protocol": "tls",
        },
        "tls": {
            "client": {"ja3": "0b" * 16, "ja4": "t13d", "server_name": "www.example.com"},
            "server": {"ja3s": "0a" * 16, "ja4s": "t13"},
            "version": "1.3",
            "version_protocol": "tls",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "resumed": False,
        },
        "related": {
            "ip": ["192.0.2.9", "198.51.100.7"],
            "hash": ["0b" * 16, "t13d", "0a" * 16, "t13"],
        },
        "deckwire": {"schema": SCHEMA, "alpn": ["h2", "http/1.1"], "decky": "web-1"},
    }


@pytest.mark.parametrize("one", [one for e in CATALOGUE.values() for one in e.fields])
def test_every_declared_name_is_in_the_list_with_its_type(one: Declared) -> None:
    if one.ecs.startswith("deckwire."):
        return
    if one.ecs in USED_BY_OTHERS:
        assert one.ecs not in ecs_fields()
        return
    kind, _ = ecs_fields()[one.ecs]
    kinds = {Type.INTEGER: "long", Type.BOOLEAN: "boolean", Type.NUMBER: "long"}
    assert kind == kinds.get(one.type, kind)


@pytest.mark.parametrize(
    ("version", "ecs", "protocol", "own"),
    [
        ("TLS 1.2", "1.2", "tls", None),
        ("SSL 3.0", "3.0", "ssl", None),
        ("TLS 1.3 (draft 18)", "1.3", "tls", "TLS 1.3 (draft 18)"),
        ("0x0a0b", None, None, "0x0a0b"),
        ("", None, None, None),
    ],
)
def test_versions(version: str, ecs: str | None, protocol: str | None, own: str | None) -> None:
    found = line(event("tls_client_hello", ("tls_version", version)))
    tls = found.get("tls", {})
    assert (tls.get("version"), tls.get("version_protocol")) == (ecs, protocol)
    assert found["deckwire"].get("tls_version") == own


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("261124025926Z", "2026-11-24T02:59:26Z"),
        ("491231235959Z", "2049-12-31T23:59:59Z"),
        ("500101000000Z", "1950-01-01T00:00:00Z"),
        ("20810827030546Z", "2081-08-27T03:05:46Z"),
        ("2081082703Z", None),
        ("999999999999Z", None),
        ("260230000000Z", None),
        ("00000101000000Z", None),
        ("x\x1b", None),
    ],
)
def test_dates_of_certificates(text: str, date: str | None) -> None:
    found = dict(flat(line(event("tls_certificate", ("not_before", text), ("side", "server")))))
    assert found.get("tls.server.not_before") == date
    own = found.get("deckwire.not_before")
    assert own == (None if date else text.replace("\x1b", "\\x1b"))


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_certificate_belongs_to_its_side(side: str) -> None:
    fields = (
        *(("subject_cn", "a"), ("issuer", "CN=b"), ("sans", ("a.example", "b.example"))),
        *(("sni", "a.example"), ("subject", "CN=a"), ("cert_sha256", SHA256), ("serial", "0a")),
        ("side", side),
    )
    found = dict(flat(line(event("tls_certificate", *fields))))
    assert found[f"tls.{side}.subject"] == "CN=a"
    assert found[f"tls.{side}.x509.subject.common_name"] == ["a"]
    assert found[f"tls.{side}.x509.serial_number"] == "0A"
    assert found[f"tls.{side}.hash.sha256"] == SHA256.upper()
    assert found["related.hash"] == [SHA256.upper()]
    assert found["tls.client.server_name"] == found["destination.domain"] == "a.example"
    other = {"server": "client", "client": "server"}[side]
    assert not any(name.startswith(f"tls.{other}.") and "name" not in name for name in found)


FLOW = (
    *(("packets", 10), ("bytes", 700), ("duration_s", 1.234), ("retransmits", 3)),
    *(("retransmits_server", 4), ("bytes_client", 100), ("bytes_server", 600)),
    *(("packets_client", 6), ("packets_server", 4)),
)


def test_figures_of_a_connection() -> None:
    found = dict(flat(line(event("tcp_flow_timing", *FLOW))))
    assert found["event.duration"] == 1_234_000_000
    assert (found["network.bytes"], found["network.packets"]) == (700, 10)
    for end in ("source", "client"):
        assert (found[f"{end}.bytes"], found[f"{end}.packets"]) == (100, 6)
    for end in ("destination", "server"):
        assert (found[f"{end}.bytes"], found[f"{end}.packets"]) == (600, 4)


def test_the_peer_as_the_source_is_the_server() -> None:
    """As in DECNET's profile: a decky opened the connection and is dst_ip."""
    found = dict(flat(line(outbound(event("tcp_flow_timing", *FLOW)))))
    for end, address in (("source", "192.0.2.9"), ("server", "192.0.2.9")):
        assert found[f"{end}.ip"] == address
        assert (found[f"{end}.bytes"], found[f"{end}.packets"]) == (600, 4)
    for end in ("destination", "client"):
        assert (found[f"{end}.bytes"], found[f"{end}.packets"]) == (100, 6)
    assert (found["deckwire.retransmits"], found["deckwire.decky_retransmits"]) == (4, 3)
    hello = dict(flat(line(outbound(event("tls_client_hello", ("ja3", "0a" * 16), ("sni", "c2"))))))
    assert hello["tls.client.ja3"] == "0a" * 16
    assert hello["related.hash"] == ["0a" * 16]
    assert hello["source.domain"] == hello["server.domain"] == "c2"
    assert "destination.domain" not in hello


def test_tls_roles_decide_whose_name_it_is() -> None:
    made = event("tls_client_hello", ("sni", "a.example"), ("tls_client", "server"))
    found = dict(flat(line(made)))
    assert found["source.domain"] == "a.example"
    assert "destination.domain" not in found


def test_directions() -> None:
    for direction, expected in (("lateral", "internal"), ("outbound", "outbound")):
        made = event("tcp_handshake")._replace(parts=(*ENDS, ("direction", direction)))
        assert line(made)["network"]["direction"] == expected


def test_an_anomaly_without_ports_and_a_hello_that_was_not_believed() -> None:
    bare = event("tcp_anomaly")._replace(
        parts=(ENDS[0], ENDS[2], ("technique", "too_many_headers"), TAIL[0])
    )
    assert line(bare)["source"] == {"ip": "192.0.2.9"}
    found = line(event("tcp_anomaly", ("ja3", "0a" * 16), ("sni", "x")))
    assert (found["deckwire"]["ja3"], found["deckwire"]["sni"]) == ("0a" * 16, "x")
    assert "tls" not in found


def test_events_of_the_capture_itself() -> None:
    stamped = Identity("sensor-1").stamped
    (stats,) = stats_events("host-1", 1, {"frames": 3, "output_file_written": 4})
    found = line(stamped(stats))
    assert found["observer"]["hostname"] == "host-1"
    assert found["deckwire"]["stats"] == {"frames": 3, "output_file_written": 4}
    assert "decky" not in found["deckwire"]
    for many in stats_events("h" * 64, 1, {f"counter_number_{n}": 2**46 for n in range(500)}):
        check_ecs([stamped(many)])
        assert b'"cut"' not in EcsFormat().line(stamped(many))
    fields = (("event", "tls_session"), ("src_ip", "192.0.2.1"), ("bytes", 7))
    summary = line(stamped(Event("dedup_summary", 1, "host-1", fields)))
    assert summary["source"] == {"ip": "192.0.2.1"}
    # It is no connection's, so a sum over network.bytes must not count it.
    assert summary["deckwire"]["bytes"] == 7
    assert "network" not in summary


def test_a_long_event_loses_fields_from_its_end_and_says_so() -> None:
    fields = [(name, "ü" * 900) for name in ("ja3", "ja4", "sni", "raw_ciphers", "raw_extensions")]
    made = event("tls_client_hello", *fields, ("ja4_r", "x" * 2_000), ("ja4_o", "y" * 2_000))
    found = dict(flat(line(made)))
    assert found["deckwire.cut"] is True
    assert found["event.id"] == made.event_id
    assert {"source.ip", "tls.client.ja3", "deckwire.decky"} <= set(found)
    assert not {"network.direction", "deckwire.ja4_o"} & set(found)


VALUES = {
    Type.TEXT: TEXT,
    Type.INTEGER: st.integers(0, 2**63),
    Type.NUMBER: st.floats(0, 1e9),
    Type.BOOLEAN: st.booleans(),
    Type.LIST: st.lists(TEXT, max_size=5).map(tuple),
    Type.INTEGER_OR_EMPTY: st.one_of(st.just(""), st.integers(0, 14)),
}


@st.composite
def events(draw: st.DrawFn) -> Event:
    declared = CATALOGUE[draw(st.sampled_from(sorted(CATALOGUE)))]
    parts: list[tuple[str, Any]] = []
    for one in declared.fields:
        if one.ecs in ("event.start", "event.end"):
            parts.append((one.name, "2026-11-24T03:01:26.453503+00:00"))
        elif one.ecs.endswith(".ip"):
            parts.append((one.name, str(draw(st.ip_addresses()))))
        elif one.name == "cert_sha256":
            parts.append((one.name, SHA256))
        elif one.values:
            parts.append((one.name, draw(st.sampled_from(one.values))))
        elif draw(st.booleans()):
            parts.append((one.name, draw(VALUES[one.type])))
    made = Event(declared.name, TIME_NS, draw(TEXT), tuple(parts), source="192.0.2.1")
    if set(NAMES) & {name for name, _ in parts} and draw(st.booleans()):
        how = draw(st.sampled_from(sorted(RENAMED)))
        made = turned(made, outbound=how[0], is_reversed=how[1])
    return Identity("s").stamped(made)


@given(events())
def test_any_event_is_one_printable_line_of_known_names(made: Event) -> None:
    check_ecs([made])
    assert len(EcsFormat().line(made)) <= LINE_BYTES
