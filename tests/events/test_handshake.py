"""tcp_handshake against docs/events.md."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.event import INFORMATIONAL, Event
from deckwire.events.handshake import handshake_event, headline
from deckwire.events.server_stack import describe
from deckwire.fingerprints.identity import ServerIdentity
from deckwire.tcp.handshake import Handshake
from tests.support.event_samples import (
    ADDRESSES,
    CHOICES,
    PLAIN,
    TAIL,
    context,
    handshake,
    names,
    params,
)

OWN = [
    *("ja4ts", "rtt_server_us", "rtt_client_us", "ja4l_s", "ja4l_c"),
    *("client_ttl", "server_ttl", "syn_retransmits", "synack_retransmits"),
]

HEADLINE = headline(context(), 7)
KNOWN = ServerIdentity("4:64+0:0:1460:…", "Linux 5.x-6.x", "unix")
ANSWER = ["server_p0f_sig", "server_os", "server_os_class"]


def make(known: Handshake, choices: Choices = CHOICES, answer: ServerIdentity = KNOWN) -> Event:
    assert known.synack is not None
    server_stack = describe(answer, known.synack, choices)
    return handshake_event(HEADLINE, context(), known, choices, server_stack)


def test_fields_in_order() -> None:
    event = make(handshake())
    assert names(event) == [*ADDRESSES, *OWN, *ANSWER, *TAIL]
    assert (event.name, event.severity, event.host) == ("tcp_handshake", INFORMATIONAL, "web-1")
    assert (event.time_ns, event.source, event.fingerprint) == (
        7,
        "192.0.2.9",
        "198.51.100.7|443",
    )


def test_texts() -> None:
    printed = params(make(handshake()))
    assert [printed[name] for name in OWN] == [
        *("65160_2-4-8-1-3_1460_7", "2400", "30100", "1200_128", "15050_52"),
        *("52", "128", "1", "2"),
    ]


def test_what_was_not_seen_is_left_out() -> None:
    assert names(make(handshake(syn=None))) == [
        *ADDRESSES,
        *("ja4ts", "rtt_client_us", "server_ttl", "synack_retransmits"),
        *(*ANSWER, *TAIL),
    ]
    without_synack = handshake_event(HEADLINE, context(), handshake(synack=None), CHOICES)
    assert names(without_synack) == [*ADDRESSES, "client_ttl", "syn_retransmits", *TAIL]


def test_without_ja4plus() -> None:
    event = make(handshake(), PLAIN)
    kept = [name for name in OWN if not name.startswith("ja4")]
    assert names(event) == [*ADDRESSES, *kept, *ANSWER, *TAIL]


def test_unknown_facts_about_the_server_are_left_out() -> None:
    unknown = make(handshake(), answer=ServerIdentity("sig", None, None))
    assert names(unknown) == [*ADDRESSES, *OWN, "server_p0f_sig", *TAIL]
