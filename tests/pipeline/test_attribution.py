"""Who is the attacker: connections that deckies open, to peers and to each other."""

from __future__ import annotations

import ssl

import pytest

from deckwire.bus.messages import Announcement
from deckwire.captures import Frame
from deckwire.config import Settings
from deckwire.deckies import Decky, parse_address
from deckwire.events.event import Event
from tests.pipeline.test_pipeline import apart, kernel
from tests.support.conversation import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    SECOND,
    START_NS,
    STRANGER,
    Conversation,
    in_time,
)
from tests.support.emitted import names, of, one
from tests.support.flights import Flight, client_hello, handshake, message, record
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

TLS12 = handshake(ssl.TLSVersion.TLSv1_2)
MUTUAL = handshake(ssl.TLSVersion.TLSv1_2, mutual=True)
RETRIED = handshake(ssl.TLSVersion.TLSv1_3, retry=True)
PEER = Settings(dedup_ttl=0.0, raw_fingerprints=True, outbound_source="peer")
AS_OPENED = Settings(dedup_ttl=0.0, raw_fingerprints=True)
OPENER = {"ja4l_rtt_ms", "ja4l_client_ttl", "ja4l_c"}
"""Fields of TLS events about the stack that opened the connection."""
TLS_CLIENT = {
    *("ja3", "ja4", "ja4_stable", "ja4_r", "ja4_o", "ja4_ro", "raw_ciphers", "raw_extensions")
}
TLS_SERVER = {"ja3s", "ja4s", "ja4s_r", "ja3s_after_retry", "ja4s_after_retry"}
ADDRESSES = {"src_ip", "src_port", "dst_ip", "dst_port"}


def talk(
    client: str, server: str, flight: Flight = TLS12, *, is_reversed: bool = False
) -> Conversation:
    """A TLS connection with all its flights; who opens it is the TLS server if `is_reversed`."""
    conversation = Conversation(client, server).open()
    sends = [conversation.send, conversation.answer]
    first, second = reversed(sends) if is_reversed else sends
    # The ClientHello has a segment of its own: the rest of the client's answers the server.
    end = 5 + int.from_bytes(flight.client[3:5], "big")
    first(flight.client[:end])
    second(flight.server)
    first(flight.client[end:])
    return conversation.close()


def of_connection(events: list[Event]) -> list[Event]:
    """Without decky_initiated, whose source is the decky in any case."""
    return [event for event in events if event.name != "decky_initiated"]


@pytest.mark.parametrize(("decky", "peer"), [(DECKY, CLIENT), (DECKY6, CLIENT6)])
def test_the_peer_of_an_outbound_connection_is_the_source(
    lab: ReplayLab, decky: str, peer: str
) -> None:
    frames = talk(decky, peer).frames
    before = of_connection(lab.frames(frames, [decky], AS_OPENED))
    events = of_connection(lab.frames(frames, [decky], PEER))
    assert lab.last is not None
    assert names(before) == ["tcp_syn_fingerprint", *names(events)]
    assert lab.last.pipeline.counts["outbound_own_left_out"] == 1
    for event in events:
        fields = dict(event.fields)
        assert (fields["src_ip"], fields["src_port"]) == (peer, 443)
        assert (fields["dst_ip"], fields["dst_port"]) == (decky, 40_000)
        assert (fields["direction"], event.source, event.host) == ("outbound", peer, "d-0")


@pytest.mark.parametrize("is_reversed", [False, True], ids=["usual roles", "reversed roles"])
@pytest.mark.parametrize("direction", ["inbound", "outbound", "lateral"])
@pytest.mark.parametrize("flight", [MUTUAL, RETRIED], ids=["TLS 1.2", "TLS 1.3"])
def test_fingerprints_of_the_decky_itself_have_other_names(
    lab: ReplayLab, direction: str, is_reversed: bool, flight: Flight
) -> None:
    """DECNET files the plain names under src_ip."""
    client, server = {
        "inbound": (CLIENT, DECKY),
        "outbound": (DECKY, CLIENT),
        "lateral": (DECKY, DECKY_B),
    }[direction]
    frames = talk(client, server, flight, is_reversed=is_reversed).frames
    before, events = (lab.frames(frames, [DECKY, DECKY_B], how) for how in (AS_OPENED, PEER))
    own: set[str] = set(OPENER) if direction == "outbound" else set()
    if is_reversed != (direction == "outbound"):
        own |= TLS_CLIENT
    elif direction == "outbound":
        own |= TLS_SERVER
    for name in ("tls_client_hello", "tls_session"):
        plain, named = one(before, name), one(events, name)
        assert plain.get("tls_client") == ("server" if is_reversed else None)
        here = own & set(plain)
        for field in here:
            assert named[f"decky_{field}"] == plain[field]
            assert field not in named
        assert bool(here) == bool(own)
        if direction == "outbound":
            assert (named["src_ip"], named["dst_ip"]) == (plain["dst_ip"], plain["src_ip"])
        rest = set(plain) - here - (ADDRESSES if direction == "outbound" else set())
        assert {field: named[field] for field in rest} == {field: plain[field] for field in rest}
        assert len(named) == len(plain)
    if flight is RETRIED and own >= TLS_SERVER:
        assert set(one(before, "tls_session")) >= TLS_SERVER


@pytest.mark.parametrize("is_reversed", [False, True], ids=["usual roles", "reversed roles"])
def test_of_outbound_connections_only_the_peers_certificate_is_emitted(
    lab: ReplayLab, is_reversed: bool
) -> None:
    frames = talk(DECKY, CLIENT, MUTUAL, is_reversed=is_reversed).frames
    assert len(of(lab.frames(frames, [DECKY], AS_OPENED), "tls_certificate")) == 2
    certificate = one(lab.frames(frames, [DECKY], PEER), "tls_certificate")
    assert certificate["side"] == ("client" if is_reversed else "server")
    assert certificate["src_ip"] == CLIENT
    assert lab.last is not None
    # The other one is the SYN.
    assert lab.last.pipeline.counts["outbound_own_left_out"] == 2


@pytest.mark.parametrize("sender", [0, 1], ids=["decky", "peer"])
def test_a_hello_that_was_not_answered_is_its_senders(lab: ReplayLab, sender: int) -> None:
    """The decky opens the connection; both ends send a hello, and one is answered."""
    end = 5 + int.from_bytes(TLS12.client[3:5], "big")
    conversation = Conversation(DECKY, CLIENT).open()
    sends = conversation.send, conversation.answer
    sends[sender](record(message(1, client_hello())))
    sends[1 - sender](TLS12.client[:end])
    sends[sender](TLS12.server)
    sends[1 - sender](TLS12.client[end:])
    events = lab.frames(conversation.close().frames, [DECKY], PEER)
    anomaly = one(events, "tcp_anomaly")
    assert anomaly["technique"] == "unanswered_hello"
    assert anomaly["sender"] == ("client", "server")[sender]
    assert ("decky_ja3" in anomaly, "ja3" in anomaly) == (not sender, bool(sender))


def test_events_of_an_outbound_connection_about_the_peer(lab: ReplayLab) -> None:
    events = lab.frames(talk(DECKY, CLIENT).frames, [DECKY], PEER)
    assert {"ja3s", "ja4s", "ja4ts"} <= one(events, "tls_session").keys()
    assert one(events, "tls_certificate")["side"] == "server"
    flow = one(events, "tcp_flow_timing")
    assert {"retransmits", "decky_retransmits"} <= flow.keys()
    assert "retransmits_server" not in flow


def test_retransmissions_are_those_of_the_source(lab: ReplayLab) -> None:
    conversation = Conversation(DECKY, CLIENT).open().send(b"x" * 10)
    conversation.add(0, "PA", 1, 1, b"x" * 10).add(0, "PA", 1, 1, b"x" * 10).answer(b"y" * 10)
    conversation.add(1, "PA", 1, 11, b"y" * 10).close()
    flow = one(lab.frames(conversation.frames, [DECKY], PEER), "tcp_flow_timing")
    assert (flow["retransmits"], flow["decky_retransmits"]) == (1, 2)


def test_inbound_and_lateral_connections_stay_as_they_are(lab: ReplayLab) -> None:
    for client, server in ((CLIENT, DECKY), (DECKY, DECKY_B)):
        frames = talk(client, server).frames
        deckies = [DECKY, DECKY_B]
        assert lab.frames(frames, deckies, PEER) == lab.frames(frames, deckies, AS_OPENED)


def test_this_host_is_no_attacker_when_a_decky_connects_to_it(lab: ReplayLab) -> None:
    lab.frames([], [DECKY], PEER)
    assert lab.last is not None
    pipeline, before = lab.last.pipeline, lab.last
    pipeline.ignore_peers(frozenset({Decky("host", parse_address(CLIENT)).packed}))
    assert lab.replay is not None
    lab.replay.run_frames(talk(DECKY, CLIENT).frames)
    pipeline.finish()
    assert before.pipeline.counts["outbound_to_own_host"] == 5
    # decky_initiated, whose source is the decky
    assert before.emitter.made == 1


def one_after_another(*peers: str) -> list[Frame]:
    """Connections of a decky to peers, with equal hellos, each two seconds after the last."""
    return in_time(
        *(
            apart(
                Conversation(DECKY, peer, 40_000 + at, start_ns=START_NS + 2 * at * SECOND),
                TLS12.client,
                TLS12.server,
                again=False,
            )
            for at, peer in enumerate(peers)
        )
    )


@pytest.mark.parametrize("first", [CLIENT, DECKY_B], ids=["outbound", "lateral"])
def test_each_peer_has_its_hello_although_all_are_equal(lab: ReplayLab, first: str) -> None:
    """Equal hellos of one decky are of one sender, and their events are about several peers."""
    how = Settings(dedup_ttl=300.0, outbound_source="peer")
    frames = one_after_another(first, STRANGER, CLIENT)
    with kernel(lab, how):
        events = lab.frames(frames, [DECKY, DECKY_B], how)
    sources = [hello["src_ip"] for hello in of(events, "tls_client_hello")]
    assert sources == [first if first == CLIENT else DECKY, STRANGER, CLIENT][: len(sources)]
    assert set(sources) >= {STRANGER, CLIENT}


def test_the_kernel_suppresses_a_decky_s_repeated_hello_to_one_peer(lab: ReplayLab) -> None:
    how = Settings(dedup_ttl=300.0, outbound_source="peer")
    with kernel(lab, how):
        events = lab.frames(one_after_another(CLIENT, CLIENT, CLIENT), [DECKY], how)
    assert one(events, "tls_client_hello")["src_ip"] == CLIENT
    assert lab.last is not None
    assert lab.last.stats.sums()["hellos_suppressed"] == 2
    (summary,) = [s for s in of(events, "dedup_summary") if s["event"] == "tls_client_hello"]
    assert (summary["src_ip"], summary["count"]) == (CLIENT, 2)


# --- lateral ---


def lateral(how: str) -> Settings:
    return Settings(dedup_ttl=0.0, lateral=how)


def test_lateral_events_can_be_dropped(lab: ReplayLab) -> None:
    frames = [*talk(DECKY, DECKY_B).frames, *talk(CLIENT, DECKY).frames]
    events = lab.frames(frames, [DECKY, DECKY_B], lateral("drop"))
    assert {dict(event.fields)["direction"] for event in events} == {"inbound"}
    assert lab.last is not None
    assert lab.last.pipeline.counts["lateral_dropped"] == 7


def test_held_events_that_nobody_announces_are_emitted(lab: ReplayLab) -> None:
    frames = talk(DECKY, DECKY_B).frames
    emitted = lab.frames(frames, [DECKY, DECKY_B], lateral("emit"))
    held = lab.frames(frames, [DECKY, DECKY_B], lateral("hold"))
    assert held == emitted
    assert lab.last is not None
    assert lab.last.pipeline.counts["lateral_held"] == len(emitted) == 7


def test_nothing_of_an_announced_connection_is_emitted(lab: ReplayLab) -> None:
    """Neither what is held, nor what its end gives later."""
    lab.frames([], [DECKY, DECKY_B], lateral("hold"))
    assert lab.last is not None
    assert lab.replay is not None
    pipeline, emitter = lab.last.pipeline, lab.last.emitter
    announced, other = Conversation(DECKY, DECKY_B), Conversation(DECKY, DECKY_B, 40_001, 80)
    for conversation in (announced, other):
        conversation.open().send(b"hello").answer(b"hello")
    lab.replay.run_frames([*announced.frames, *other.frames])
    pipeline.announce(Announcement("d-0", DECKY_B, 443))
    assert emitter.made == 0
    ends = [conversation.close().frames[-3:] for conversation in (announced, other)]
    lab.replay.run_frames([*ends[0], *ends[1]])
    pipeline.finish()
    assert pipeline.counts["lateral_announced"] == 5
    assert emitter.made == pipeline.counts["lateral_held"] - 3 == 5


def test_held_events_are_deduplicated_when_they_are_emitted(lab: ReplayLab) -> None:
    frames = talk(DECKY, DECKY_B).frames
    again = Conversation(DECKY, DECKY_B, 40_005, start_ns=frames[-1].time_ns + 1_000_000_000)
    again.open().send(TLS12.client).answer(TLS12.server).close()
    how = Settings(dedup_ttl=300.0, lateral="hold")
    events = lab.frames([*frames, *again.frames], [DECKY, DECKY_B], how)
    assert len(of(events, "tcp_flow_timing")) == 1
    assert sum(summary["count"] for summary in of(events, "dedup_summary")) == 7
