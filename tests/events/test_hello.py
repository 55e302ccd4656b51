"""tls_client_hello against docs/events.md."""

from __future__ import annotations

from typing import Any

import pytest

from deckwire.events.choices import Choices
from deckwire.events.client import describe
from deckwire.events.event import INFORMATIONAL, Event
from deckwire.events.hello import headline, hello_event
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import SyslogFormat
from deckwire.tcp.handshake import Handshake
from deckwire.tls.messages import parse_client_hello
from tests.support.event_samples import (
    ADDRESSES,
    CHOICES,
    CLIENT6,
    DECKY,
    DECKY6,
    PLAIN,
    TAIL,
    TIME_NS,
    context,
    handshake,
    names,
    params,
    value,
)
from tests.support.flights import client_hello, u16, vector

OFFER = ["sni", "alpn", "raw_ciphers", "raw_extensions"]
KEPT = [*ADDRESSES, "ja3", "ja4", "tls_version", *OFFER]
LATENCY = ["rtt_client_us", "rtt_server_us", "ja4l_c", "ja4l_s"]


def sni(name: bytes) -> tuple[int, bytes]:
    return 0, vector(2, b"\0" + vector(2, name))


def alpn(*protocols: bytes) -> tuple[int, bytes]:
    return 16, vector(2, b"".join(vector(1, protocol) for protocol in protocols))


TLS13 = 43, vector(1, u16(0x1A1A, 0x0304, 0x0303))


def make(
    *extensions: tuple[int, bytes],
    choices: Choices = CHOICES,
    quality: str = "complete",
    offset: int | None = 0,
    syn_packet: Handshake | None = None,
    where: tuple[str, ...] = (),
    cut_at: int | None = None,
    **body: Any,
) -> Event:
    whole = client_hello(*extensions, **body)[:cut_at]
    hello = parse_client_hello(whole, cut=cut_at is not None)
    client = describe(hello, choices)
    return hello_event(
        headline(context(*where), TIME_NS, client, choices),
        context(*where),
        client,
        quality=quality,
        offset=offset,
        handshake=syn_packet or handshake(),
        choices=choices,
    )


def test_fields_in_order() -> None:
    event = make(sni(b"a.example"), alpn(b"h2", b"http/1.1"))
    assert names(event) == [
        *KEPT,
        *("ja4l_rtt_ms", "ja4l_client_ttl", "ja4_stable", "quality"),
        *LATENCY,
        *TAIL,
    ]
    assert (event.name, event.severity, event.host) == (
        "tls_client_hello",
        INFORMATIONAL,
        "web-1",
    )
    assert event.source == "192.0.2.9"
    prints = f"{value(event, 'ja3')}|{value(event, 'ja4')}"
    assert event.fingerprint == f"{DECKY}|{prints}|{value(event, 'sni')}|h2|http/1.1"


def test_all_fields_in_order() -> None:
    event = make(
        TLS13,
        (10, vector(2, u16(0x2A2A, 0x11EC, 29))),
        (35, b"ticket"),
        (0xFE0D, b"\0"),
        choices=Choices(raw_fingerprints=True),
        offset=24,
    )
    assert names(event) == [
        *KEPT,
        *("resumption", "ja4l_rtt_ms", "ja4l_client_ttl", "ja4_stable", "ja4_r", "ja4_o", "ja4_ro"),
        *("quality", "ech", "pq"),
        *LATENCY,
        "starttls",
        *TAIL,
    ]
    printed = params(event)
    assert (printed["ech"], printed["pq"], printed["starttls"]) == (
        "true",
        "X25519MLKEM768",
        "true",
    )


def test_texts() -> None:
    printed = params(
        make(
            (0x3A3A, b""),
            sni(b"a.example"),
            alpn(b"h2", b"http/1.1"),
            TLS13,
            suites=u16(0x0A0A, 0x1301, 0xC02F, 0x00FF),
        )
    )
    assert printed["raw_ciphers"] == "4865-49199-255"
    assert printed["raw_extensions"] == "0-16-43"
    assert printed["alpn"] == "h2,http/1.1"
    assert printed["sni"] == "a.example"
    assert printed["tls_version"] == "TLS 1.3"
    assert (printed["ja4l_rtt_ms"], printed["ja4l_client_ttl"]) == ("2.4", "52")
    assert (printed["rtt_client_us"], printed["rtt_server_us"]) == ("30100", "2400")
    assert printed["quality"] == "complete"


def test_empty_fields_are_printed() -> None:
    printed = params(make())
    assert [printed[name] for name in ("sni", "alpn", "raw_extensions")] == ["", "", ""]
    assert "resumption" not in printed


@pytest.mark.parametrize(
    ("extensions", "session_id", "offered"),
    [
        ([], b"", None),
        ([], b"\1" * 32, "session_id"),
        ([(35, b"")], b"", None),
        ([(35, b"t")], b"\1", "session_ticket,session_id"),
        ([TLS13], b"\1" * 32, None),
        ([TLS13, (42, b""), (41, b"binders")], b"\1" * 32, "psk,early_data_0rtt"),
        ([TLS13, (41, b""), (42, b""), (35, b"t")], b"", "session_ticket,psk,early_data_0rtt"),
    ],
)
def test_resumption(
    extensions: list[tuple[int, bytes]], session_id: bytes, offered: str | None
) -> None:
    assert params(make(*extensions, session_id=session_id)).get("resumption") == offered


@pytest.mark.parametrize(
    ("versions", "legacy", "text"),
    [
        (u16(0x0304, 0x0303), 0x0303, "TLS 1.3"),
        (u16(0x7F1C, 0x0304), 0x0303, "TLS 1.3"),
        (u16(0x4A4A, 0x0303), 0x0303, "TLS 1.2"),
        (b"", 0x0301, "TLS 1.0"),
        (b"", 0x0300, "SSL 3.0"),
    ],
)
def test_tls_version_is_the_highest_offered(versions: bytes, legacy: int, text: str) -> None:
    extensions = [(43, vector(1, versions))] if versions else []
    assert params(make(*extensions, version=legacy))["tls_version"] == text


def test_a_cut_hello_has_no_fingerprint_and_no_version_unless_it_told_it() -> None:
    whole = client_hello(sni(b"a.example"), TLS13)
    early = params(make(sni(b"a.example"), TLS13, cut_at=len(whole) - 9, session_id=b""))
    assert (early["ja3"], early["ja4"], early["tls_version"]) == ("", "", "")
    assert early["sni"] == "a.example"
    late = params(make(TLS13, sni(b"a.example"), cut_at=len(whole) - 3))
    assert (late["tls_version"], late["sni"]) == ("TLS 1.3", "")
    assert "resumption" not in params(make(cut_at=70, session_id=b"\1" * 32))


def test_malformed_extensions_are_told_as_quality() -> None:
    assert value(make((10, b"\0\1\2")), "quality") == "malformed"
    assert value(make((10, b"\0\1\2"), quality="reassembled"), "quality") == "malformed"
    assert value(make((10, vector(2, u16(29)))), "quality") == "complete"


@pytest.mark.parametrize(
    ("size", "quality"), [(32, "complete"), (33, "malformed"), (255, "malformed")]
)
def test_a_session_id_that_is_too_long_is_reported_as_quality(size: int, quality: str) -> None:
    usual, odd = make(sni(b"a.example")), make(sni(b"a.example"), session_id=bytes(size))
    assert value(odd, "quality") == quality
    for name in ("ja3", "ja4", "sni", "raw_ciphers", "raw_extensions"):
        assert value(odd, name) == value(usual, name)


def test_unknown_start_or_start_at_the_first_byte_is_no_starttls() -> None:
    assert "starttls" not in names(make(offset=0))
    assert "starttls" not in names(make(offset=None))


def test_without_a_handshake_its_fields_are_left_out() -> None:
    assert names(make(syn_packet=Handshake())) == [*KEPT, "ja4_stable", "quality", *TAIL]


def test_without_ja4plus_latency_keeps_its_plain_fields() -> None:
    event = make(choices=PLAIN)
    assert names(event) == [
        *KEPT,
        *("ja4l_rtt_ms", "ja4l_client_ttl", "ja4_stable"),
        *("quality", "rtt_client_us", "rtt_server_us"),
        *TAIL,
    ]
    assert value(event, "ja4")


def test_decnet_values_of_ja4() -> None:
    old = params(make(sni(b"a.example"), TLS13, choices=Choices(decnet=True)))["ja4"]
    new = params(make(sni(b"a.example"), TLS13))["ja4"]
    # By sha256sum: of "4865,49199" and of "0,43".
    assert old == "t13d020200_9204967d2f69_b0c37dd12508"
    assert new.startswith("t13d020200_")
    assert new != old


def test_ipv6() -> None:
    printed = params(make(where=(CLIENT6, DECKY6)))
    assert (printed["src_ip"], printed["dst_ip"]) == (CLIENT6, DECKY6)


HOSTILE = b'a"]\\\r\n<134>1 forged \x1b[2J\x00\xff\xc2\x85'
FORMS: list[dict[str, str]] = [{}, {"sd_id": "relay@55555"}]


@pytest.mark.parametrize("form", FORMS)
def test_hostile_names_stay_inside_their_value(form: dict[str, str]) -> None:
    event = make(sni(HOSTILE), alpn(HOSTILE, b"h2"))
    line = SyslogFormat(**form).line(event)
    assert line.isascii()
    assert all(0x20 <= byte < 0x7F for byte in line)
    printed = params(event, **form)
    bracket = r"\x5d" if form else "]"
    shown = rf'a"{bracket}\\x0d\x0a<134>1 forged \x1b[2J\x00\xff\x85'
    assert printed["sni"] == shown
    assert printed["alpn"] == f"{shown},h2"
    assert list(printed) == names(event)


def test_hostile_names_in_json() -> None:
    line = JsonFormat().line(make(sni(HOSTILE), alpn(HOSTILE, b"h2")))
    assert all(0x20 <= byte < 0x7F for byte in line)
    assert b'"alpn": ["a\\"]' in line


def test_a_name_as_long_as_a_hello_is_cut() -> None:
    printed = params(make(sni(b"a" * 60_000)))
    assert printed["sni"].endswith("...")
    assert len(printed["sni"]) <= 2_048
    assert printed["conn_id"]
