"""Who is the attacker: connections that deckies open, to peers and to each other."""

from __future__ import annotations

import ssl

import pytest

from deckwire.bus.messages import Announcement
from deckwire.config import Settings
from deckwire.deckies import Decky, parse_address
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
from tests.support.flights import handshake
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

TLS12 = handshake(ssl.TLSVersion.TLSv1_2)
PEER = Settings(dedup_ttl=0.0, raw_fingerprints=True, outbound_source="peer")
AS_OPENED = Settings(dedup_ttl=0.0, raw_fingerprints=True)
OWN_NAMES = {
    "tls_client_hello": {
        *("ja3", "ja4", "ja4_r", "ja4_o", "ja4_ro", "raw_ciphers", "raw_extensions"),
        *("ja4l_rtt_ms", "ja4l_client_ttl", "ja4l_c"),
    },
    "tls_session": {
        *("ja3", "ja4", "raw_ciphers", "raw_extensions"),
        *("ja4l_rtt_ms", "ja4l_client_ttl", "ja4l_c"),
    },
}
"""Fields about the decky's own stack, which is the client's in an outbound connection."""


def talk(client: str, server: str) -> Conversation:
    """A TLS 1.2 connection with all its flights."""
    conversation = Conversation(client, server).open().send(TLS12.client).answer(TLS12.server)
    return conversation.close()


@pytest.mark.parametrize(("decky", "peer"), [(DECKY, CLIENT), (DECKY6, CLIENT6)])
def test_the_peer_of_an_outbound_connection_is_the_source(
    lab: ReplayLab, decky: str, peer: str
) -> None:
    frames = talk(decky, peer).frames
    before = lab.frames(frames, [decky], AS_OPENED)
    events = lab.frames(frames, [decky], PEER)
    assert lab.last is not None
    assert names(before) == ["tcp_syn_fingerprint", *names(events)]
    assert lab.last.pipeline.counts["outbound_own_left_out"] == 1
    for event in events:
        fields = dict(event.fields)
        assert (fields["src_ip"], fields["src_port"]) == (peer, 443)
        assert (fields["dst_ip"], fields["dst_port"]) == (decky, 40_000)
        assert (fields["direction"], event.source, event.host) == ("outbound", peer, "d-0")


def test_fields_of_the_decky_itself_have_other_names(lab: ReplayLab) -> None:
    frames = talk(DECKY, CLIENT).frames
    before, events = (lab.frames(frames, [DECKY], how) for how in (AS_OPENED, PEER))
    for name, own in OWN_NAMES.items():
        plain, renamed = one(before, name), one(events, name)
        for field in own:
            assert renamed[f"decky_{field}"] == plain[field]
            assert field not in renamed
        rest = set(plain) - own - {"src_ip", "src_port", "dst_ip", "dst_port"}
        assert {field: renamed[field] for field in rest} == {field: plain[field] for field in rest}
    # These describe the peer.
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
    assert before.emitter.made == 0


@pytest.mark.parametrize("first", [CLIENT, DECKY_B], ids=["outbound", "lateral"])
def test_each_peer_has_its_hello_although_all_are_equal(lab: ReplayLab, first: str) -> None:
    """The kernel knows the sender of a hello and not the peer that its event is about."""
    how = Settings(dedup_ttl=300.0, outbound_source="peer")
    talks = [
        apart(
            Conversation(DECKY, peer, 40_000 + at, start_ns=START_NS + 2 * at * SECOND),
            TLS12.client,
            TLS12.server,
            again=False,
        )
        for at, peer in enumerate((first, STRANGER, CLIENT))
    ]
    frames = in_time(*talks)
    with kernel(lab, how):
        events = lab.frames(frames, [DECKY, DECKY_B], how)
    sources = [hello["src_ip"] for hello in of(events, "tls_client_hello")]
    assert sources == [first if first == CLIENT else DECKY, STRANGER, CLIENT][: len(sources)]
    assert set(sources) >= {STRANGER, CLIENT}


# --- lateral ---


def lateral(how: str) -> Settings:
    return Settings(dedup_ttl=0.0, lateral=how)


def test_lateral_events_can_be_dropped(lab: ReplayLab) -> None:
    frames = [*talk(DECKY, DECKY_B).frames, *talk(CLIENT, DECKY).frames]
    events = lab.frames(frames, [DECKY, DECKY_B], lateral("drop"))
    assert {dict(event.fields)["direction"] for event in events} == {"inbound"}
    assert lab.last is not None
    assert lab.last.pipeline.counts["lateral_dropped"] == 6


def test_held_events_that_nobody_announces_are_emitted(lab: ReplayLab) -> None:
    frames = talk(DECKY, DECKY_B).frames
    emitted = lab.frames(frames, [DECKY, DECKY_B], lateral("emit"))
    held = lab.frames(frames, [DECKY, DECKY_B], lateral("hold"))
    assert held == emitted
    assert lab.last is not None
    assert lab.last.pipeline.counts["lateral_held"] == len(emitted) == 6


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
    assert pipeline.counts["lateral_announced"] == 3
    assert emitter.made == pipeline.counts["lateral_held"] - 2 == 3


def test_held_events_are_deduplicated_when_they_are_emitted(lab: ReplayLab) -> None:
    frames = talk(DECKY, DECKY_B).frames
    again = Conversation(DECKY, DECKY_B, 40_005, start_ns=frames[-1].time_ns + 1_000_000_000)
    again.open().send(TLS12.client).answer(TLS12.server).close()
    how = Settings(dedup_ttl=300.0, lateral="hold")
    events = lab.frames([*frames, *again.frames], [DECKY, DECKY_B], how)
    assert len(of(events, "tcp_flow_timing")) == 1
    assert sum(summary["count"] for summary in of(events, "dedup_summary")) == 6
