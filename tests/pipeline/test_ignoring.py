"""Rules of `ignore` on events of connections, through the real programs."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from deckwire.captures import Frame
from deckwire.config import Settings
from deckwire.events.ignore import IgnoreRules, read_rules
from tests.pipeline.test_pipeline import kernel
from tests.support.conversation import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    SECOND,
    START_NS,
    Conversation,
    in_time,
)
from tests.support.emitted import names
from tests.support.flights import handshake
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

TLS12 = handshake(ssl.TLSVersion.TLSv1_2)
HELLO = 5 + int.from_bytes(TLS12.client[3:5], "big")
PORT = 443
ALL = [
    *("tcp_syn_fingerprint", "tcp_handshake", "tls_client_hello", "tls_session"),
    *("tls_certificate", "tcp_flow_timing"),
]


def settings(*tables: dict[str, Any], **more: Any) -> Settings:
    return Settings(dedup_ttl=0.0, scan_targets=0, ignore=read_rules(list(tables)), **more)


def talk(client: str = CLIENT, server: str = DECKY) -> Conversation:
    conversation = Conversation(client, server).open().send(TLS12.client[:HELLO])
    return conversation.answer(TLS12.server).send(TLS12.client[HELLO:]).close()


def seen(lab: ReplayLab, *conversations: Conversation, rules: Settings) -> tuple[list[str], int]:
    """Names of the events, and how many were ignored."""
    events = lab.frames(in_time(*conversations), [DECKY, DECKY_B, DECKY6], rules)
    assert lab.last is not None
    sums = lab.last.stats.sums()
    ignored = sum(count for name, count in sums.items() if name.startswith("ignored_rule_"))
    return names(events), ignored


@pytest.mark.parametrize(
    ("client", "server", "table", "left"),
    [
        (CLIENT, DECKY, {"source": CLIENT}, []),
        (CLIENT6, DECKY6, {"source": f"{CLIENT6}/128"}, []),
        (CLIENT, DECKY, {"destination": DECKY, "port": PORT}, []),
        (CLIENT, DECKY, {"protocol": "tcp", "direction": "inbound"}, []),
        (DECKY_B, DECKY, {"direction": "lateral"}, []),
        (DECKY, CLIENT, {"direction": "outbound", "source": DECKY}, []),
        (CLIENT, DECKY, {"event": "tls_*"}, [one for one in ALL if not one.startswith("tls_")]),
        (CLIENT, DECKY, {"source": DECKY}, ALL),
        (CLIENT, DECKY, {"port": 1}, ALL),
        (CLIENT, DECKY, {"event": "scan_summary"}, ALL),
    ],
)
def test_events_that_match_are_left_out_and_counted(
    lab: ReplayLab, client: str, server: str, table: dict[str, Any], left: list[str]
) -> None:
    found, ignored = seen(lab, talk(client, server), rules=settings(table))
    assert found == left
    # A decky that opens a connection has decky_initiated too.
    made = len(ALL) + (client in (DECKY, DECKY_B))
    assert ignored == made - len(left)


def test_the_peer_of_an_outbound_connection_is_the_source(lab: ReplayLab) -> None:
    outbound = talk(DECKY, CLIENT)
    for table, is_ignored in (({"source": CLIENT}, True), ({"source": DECKY}, False)):
        rules = settings(table, outbound_source="peer")
        found, _ = seen(lab, outbound, rules=rules)
        # Its source is the decky in any case.
        assert ("decky_initiated" in found) is is_ignored
        assert (set(found) <= {"decky_initiated"}) is is_ignored


def test_what_is_ignored_suppresses_nothing_of_others(lab: ReplayLab) -> None:
    """The second client's connection is equal, and its events are emitted."""
    rules = settings({"source": CLIENT})
    found, ignored = seen(lab, talk(), talk("198.51.100.99"), rules=rules)
    assert (found, ignored) == (ALL, len(ALL))


def knocking(count: int, port: int = PORT, begin_s: int = 0) -> list[Conversation]:
    """SYNs of one source, one a second, each of a connection of its own."""
    found = []
    for number in range(count):
        one = Conversation(CLIENT, DECKY, 30_000 + begin_s + number, port)
        one.now_ns = START_NS + (begin_s + number) * SECOND
        found.append(one.syn())
    return found


def sums(lab: ReplayLab, frames: list[Frame], rules: Settings) -> tuple[list[str], dict[str, int]]:
    with kernel(lab, rules):
        events = lab.frames(frames, [DECKY, DECKY_B], rules)
    assert lab.last is not None
    return names(events), lab.last.stats.sums()


def deduplicating(*tables: dict[str, Any]) -> Settings:
    return replace(settings(*tables), dedup_ttl=300.0)


def test_the_kernel_suppresses_what_is_ignored_and_each_is_counted(lab: ReplayLab) -> None:
    """A look at it each minute is enough."""
    rules = deduplicating({"name": "mine", "source": CLIENT})
    events, counts = sums(lab, in_time(*knocking(150)), rules)
    assert events == []
    assert counts["ignored_rule_mine"] == 150
    assert counts["syn_suppressed"] >= 145


def test_whole_connections_that_are_ignored_are_suppressed(lab: ReplayLab) -> None:
    rules = deduplicating({"name": "mine", "source": CLIENT, "port": PORT})
    talks = []
    for number in range(20):
        one = Conversation(CLIENT, DECKY, 30_000 + number, PORT)
        one.now_ns = START_NS + number * SECOND
        talks.append(one.open().send(b"PING").answer(b"PONG").close())
    events, counts = sums(lab, in_time(*talks), rules)
    assert events == []
    assert counts["handshakes_suppressed"] >= 15
    # A SYN to another port looks the same, so these are not suppressed for longer than a second.
    assert counts.get("syn_suppressed", 0) < 15
    # The SYN, the handshake, the payload and the end of each.
    assert counts["ignored_rule_mine"] == 20 * 4


def test_a_rule_for_a_port_suppresses_no_syn_to_another_one(lab: ReplayLab) -> None:
    rules = deduplicating({"name": "mine", "source": CLIENT, "port": PORT})
    frames = in_time(*knocking(5), *knocking(5, 22, begin_s=10))
    events, counts = sums(lab, frames, rules)
    assert "tcp_syn_fingerprint" in events
    assert counts["ignored_rule_mine"] == 5


def test_rules_that_change_are_looked_at_again(lab: ReplayLab) -> None:
    rules = deduplicating({"name": "mine", "source": CLIENT})

    def frames() -> Iterator[Frame]:
        yield from in_time(*knocking(5))
        assert lab.last is not None
        assert lab.last.pipeline.counts["ignored_rule_mine"]
        lab.last.pipeline.ignore(IgnoreRules())
        yield from in_time(*knocking(5, begin_s=10))

    with kernel(lab, rules):
        events = lab.frames(frames(), [DECKY], rules)
    assert names(events).count("tcp_syn_fingerprint") == 1
