"""tcp_handshake against docs/events.md."""

from __future__ import annotations

from deckwire.event import INFORMATIONAL
from deckwire.events.handshake import handshake_event, headline
from deckwire.fingerprints.identity import Answer

from .made import ADDRESSES, CHOICES, PLAIN, TAIL, handshake, names, params, place

OWN = [
    *("ja4ts", "rtt_server_us", "rtt_client_us", "ja4l_s", "ja4l_c"),
    *("client_ttl", "server_ttl", "syn_retransmits", "synack_retransmits"),
]

HEADLINE = headline(place(), 7)


def test_fields_in_order() -> None:
    event = handshake_event(HEADLINE, place(), handshake(), CHOICES)
    assert names(event) == [*ADDRESSES, *OWN, *TAIL]
    assert (event.name, event.severity, event.host) == ("tcp_handshake", INFORMATIONAL, "web-1")
    assert (event.time_ns, event.source, event.fingerprint) == (
        7,
        "192.0.2.9",
        "198.51.100.7|443",
    )


def test_texts() -> None:
    told = params(handshake_event(HEADLINE, place(), handshake(), CHOICES))
    assert [told[name] for name in OWN] == [
        *("65160_2-4-8-1-3_1460_7", "2400", "30100", "1200_128", "15050_52"),
        *("52", "128", "1", "2"),
    ]


def test_what_was_not_seen_is_left_out() -> None:
    without_syn = handshake_event(HEADLINE, place(), handshake(syn=None), CHOICES)
    assert names(without_syn) == [
        *ADDRESSES,
        *("ja4ts", "rtt_client_us", "server_ttl", "synack_retransmits"),
        *TAIL,
    ]


def test_without_ja4plus() -> None:
    event = handshake_event(HEADLINE, place(), handshake(), PLAIN)
    assert names(event) == [*ADDRESSES, *(n for n in OWN if not n.startswith("ja4")), *TAIL]


def test_who_answered_stands_behind_the_rest() -> None:
    known = Answer("4:64+0:0:1460:…", "Linux 5.x-6.x", "unix")
    event = handshake_event(HEADLINE, place(), handshake(), CHOICES, known)
    assert names(event) == [
        *(*ADDRESSES, *OWN),
        *("server_p0f_sig", "server_os", "server_os_class"),
        *TAIL,
    ]
    unknown = handshake_event(HEADLINE, place(), handshake(), CHOICES, Answer("sig", None, None))
    assert names(unknown) == [*ADDRESSES, *OWN, "server_p0f_sig", *TAIL]
