"""tls_session against docs/events.md."""

from __future__ import annotations

from typing import Any

import pytest

from deckwire.events.choices import Choices
from deckwire.events.client import describe
from deckwire.events.event import WARNING, Event
from deckwire.events.server import describe as describe_server
from deckwire.events.session import headline, session_event
from deckwire.tcp.handshake import Handshake
from deckwire.tls.messages import parse_client_hello, parse_server_hello
from deckwire.tls.resumption import is_resumed
from tests.support.event_samples import (
    ADDRESSES,
    CHOICES,
    DECKY,
    PLAIN,
    TAIL,
    TIME_NS,
    context,
    handshake,
    names,
    params,
    value,
)
from tests.support.flights import client_hello, server_hello, u16, vector

KEPT = [*ADDRESSES, "ja3s", "ja4s", "tls_version"]
OFFER = ["ja3", "ja4", "sni", "alpn", "raw_ciphers", "raw_extensions"]
LATENCY = ["ja4l_rtt_ms", "ja4l_client_ttl"]
ADDED = ["ja4s_r", "ja4l_c", "ja4l_s", "ja4ts"]

SELECTED13 = 43, u16(0x0304)
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def make(
    *extensions: tuple[int, bytes],
    client: bytes | None = None,
    choices: Choices = CHOICES,
    syn_packet: Handshake | None = None,
    **body: Any,
) -> Event:
    server = parse_server_hello(server_hello(*extensions, **body))
    hello = parse_client_hello(client) if client is not None else None
    offered = describe(hello, choices) if hello is not None else None
    chosen = describe_server(server, choices)
    return session_event(
        headline(context(), TIME_NS, chosen, offered, choices),
        context(),
        chosen,
        client=offered,
        resumed=is_resumed(server, lambda: hello and server.session_id == hello.session_id != b""),
        handshake=syn_packet or handshake(),
        choices=choices,
    )


def test_fields_in_order() -> None:
    event = make(client=client_hello((0, b"")))
    assert names(event) == [
        *(*KEPT, *OFFER, *LATENCY, "ja4_stable", "cipher", "resumed", *ADDED, *TAIL),
    ]
    assert (event.name, event.severity, event.host) == ("tls_session", WARNING, "web-1")
    fields = dict(event.fields)
    prints = "|".join(str(fields[n]) for n in ("ja3", "ja3s", "ja4", "ja4s"))
    assert event.fingerprint == f"{DECKY}|{prints}|"


def test_all_fields_in_order() -> None:
    event = make(
        SELECTED13,
        (16, vector(2, vector(1, b"h2"))),
        client=client_hello((43, vector(1, u16(0x0304))), (41, b"")),
        random=RETRY,
    )
    assert names(event) == [
        *KEPT,
        *OFFER,
        "resumption",
        *LATENCY,
        *("ja4_stable", "cipher", "alpn_selected", "hrr"),
        *ADDED,
        *TAIL,
    ]
    assert params(event)["hrr"] == "true"


def test_without_its_client_hello() -> None:
    event = make()
    assert names(event) == [*KEPT, *LATENCY, "cipher", *ADDED, *TAIL]
    fields = dict(event.fields)
    assert event.fingerprint == f"{DECKY}||{fields['ja3s']}||{fields['ja4s']}"


def test_texts() -> None:
    printed = params(make((16, vector(2, vector(1, b"h2"))), client=client_hello()))
    expected = {
        "tls_version": "TLS 1.2",
        "cipher": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "alpn_selected": "h2",
        "resumed": "false",
        "ja4s_r": "t1201h2_c02f_0010",
        "ja4ts": "65160_2-4-8-1-3_1460_7",
        "ja4l_c": "15050_52",
        "ja4l_s": "1200_128",
        "ja4l_rtt_ms": "2.4",
        "ja4l_client_ttl": "52",
        "raw_ciphers": "4865-49199",
    }
    assert {name: printed[name] for name in expected} == expected


def test_tls_version_is_the_one_chosen() -> None:
    assert value(make(SELECTED13), "tls_version") == "TLS 1.3"
    assert value(make(version=0x0301), "tls_version") == "TLS 1.0"


ID, OTHER = b"\1" * 32, b"\2" * 32
OFFER13 = 43, vector(1, u16(0x0304))


@pytest.mark.parametrize(
    ("client", "extensions", "session_id", "random", "resumed"),
    [
        (client_hello(session_id=ID), [], ID, b"", "true"),
        (client_hello(session_id=ID), [], OTHER, b"", "false"),
        (client_hello(session_id=ID), [], b"", b"", "false"),
        (client_hello(), [], b"", b"", "false"),
        (None, [], ID, b"", None),
        (client_hello(OFFER13, session_id=ID), [SELECTED13], ID, b"", "false"),
        (client_hello(OFFER13, session_id=ID), [SELECTED13, (41, u16(0))], ID, b"", "true"),
        (None, [SELECTED13, (41, u16(0))], b"", b"", "true"),
        (client_hello(OFFER13), [SELECTED13], b"", RETRY, None),
    ],
)
def test_resumed_is_what_really_happened(
    client: bytes | None,
    extensions: list[tuple[int, bytes]],
    session_id: bytes,
    random: bytes,
    resumed: str | None,
) -> None:
    event = make(
        *extensions, client=client, session_id=session_id, random=random or bytes(range(32))
    )
    assert params(event).get("resumed") == resumed


def test_without_ja4plus_the_contract_field_is_empty_and_added_ones_vanish() -> None:
    event = make(client=client_hello(), choices=PLAIN)
    assert names(event) == [
        *(*KEPT, *OFFER, *LATENCY, "ja4_stable", "cipher", "resumed", *TAIL),
    ]
    assert value(event, "ja4s") == ""


def test_decnet_values() -> None:
    old = make(client=client_hello(), choices=Choices(decnet=True))
    new = make(client=client_hello())
    assert value(old, "ja4s") != value(new, "ja4s")
    assert value(old, "ja4") != value(new, "ja4")
    assert value(old, "ja3s") == value(new, "ja3s")
    assert value(old, "ja4s_r") == value(new, "ja4s_r")


def test_without_a_handshake_its_fields_are_left_out() -> None:
    event = make(syn_packet=Handshake())
    assert names(event) == [*KEPT, "cipher", "ja4s_r", *TAIL]


def test_hostile_protocol() -> None:
    printed = params(make((16, vector(2, vector(1, b'"]\n\xff')))))
    assert printed["alpn_selected"] == r'"]\x0a\xff'
