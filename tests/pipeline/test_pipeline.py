"""From frames to events, through the real programs: which are emitted, when, with which figures."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwire.abi import structs as abi
from deckwire.abi.flow_key import ends
from deckwire.captures import Frame
from deckwire.config import Budgets, Settings
from deckwire.connections import suppressed_hello
from deckwire.connections.connection import Connection, Observation
from deckwire.deckies import Decky, Registry, parse_address
from deckwire.events.dedup import Dedup
from deckwire.pipeline import sweeping
from deckwire.pipeline.dispatch import Pipeline
from deckwire.resilience.containment import Containment
from deckwire.runtime import assembly
from deckwire.runtime.preparation import kernel_settings
from deckwire.tables.flows import FlowBatch, FlowTables, OpenFlow
from deckwire.tables.half_open import HalfOpenTable
from deckwire.tables.tables import Tables
from deckwire.tcp.flow import FlowRecord
from tests.support import bpf_frames as wire
from tests.support.conversation import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    MS,
    SECOND,
    START_NS,
    STRANGER,
    Conversation,
    in_time,
)
from tests.support.emitted import names, of, one
from tests.support.flights import Flight, client_hello, handshake, message, record, vector
from tests.support.replaying import SETTINGS, ReplayLab

pytestmark = pytest.mark.root

TLS12 = handshake(ssl.TLSVersion.TLSv1_2)
TLS13 = handshake(ssl.TLSVersion.TLSv1_3)
DEDUP = Settings(dedup_ttl=300.0)


@contextmanager
def kernel(lab: ReplayLab, how: Settings) -> Iterator[None]:
    """Run the programs with other settings than the lab's, from empty SYN tables."""
    table = lab.loaded.maps["settings"]
    before = table.lookup(bytes(4))
    assert before is not None
    changed = {**abi.SETTINGS.parse(before), **kernel_settings(how)}
    table.update(bytes(4), abi.SETTINGS.build(changed))
    for name in (
        "syn_seen",
        "service_seen",
        "hello_seen",
        "anomaly_seen",
        "syn_budget",
        "anomaly_budget",
    ):
        slots = lab.loaded.maps[name]
        for key, value in slots.items():
            if any(value):
                slots.update(key, bytes(slots.value_size))
    try:
        yield
    finally:
        table.update(bytes(4), before)


def talk(**where: int) -> Conversation:
    """A TLS 1.2 connection with all its flights."""
    return Conversation(**where).open().send(TLS12.client).answer(TLS12.server).close()


# --- which events, in which order ---


def test_one_connection_tells_six_events(lab: ReplayLab) -> None:
    events = lab.frames(talk().frames, [DECKY])
    assert names(events) == [
        "tcp_syn_fingerprint",
        "tcp_handshake",
        "tls_client_hello",
        "tls_session",
        "tls_certificate",
        "tcp_flow_timing",
    ]
    assert {event.host for event in events} == {"d-0"}
    assert len({dict(event.fields)["conn_id"] for event in events}) == 1


ENDS = {"IPv4": {}, "IPv6": {"client": CLIENT6, "server": DECKY6}}


def fast(taken: int, **where: Any) -> Conversation:
    """A TLS 1.2 connection whose SYN has the hello; the server takes so many bytes with it."""
    talk = Conversation(**where).syn(data=TLS12.client)
    talk.add(1, "SA", 0, 1 + taken, b"", talk.options)
    talk.sent[0] += taken
    return talk.ack().send(TLS12.client[taken:]).answer(TLS12.server).close()


@pytest.mark.parametrize("where", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0], ids=["not taken", "half of it", "taken"])
def test_a_hello_in_the_syn_counts_as_far_as_it_is_acknowledged(
    lab: ReplayLab, where: dict[str, Any], part: float
) -> None:
    deckies = [where.get("server", DECKY)]
    events = lab.frames(fast(round(part * len(TLS12.client)), **where).frames, deckies)
    plain = lab.frames(
        Conversation(**where).open().send(TLS12.client).answer(TLS12.server).close().frames, deckies
    )
    assert Counter(names(events)) == Counter(names(plain))
    for name in ("tls_client_hello", "tls_session"):
        found, wanted = one(events, name), one(plain, name)
        assert all(found[field] == wanted[field] for field in ("ja3", "ja4", "sni"))
    flow = one(events, "tcp_flow_timing")
    assert flow["retransmits"] == 0


def test_a_hello_in_a_syn_that_nobody_answers_is_not_emitted(lab: ReplayLab) -> None:
    talk = Conversation().syn(data=TLS12.client).wait(1).add(1, "RA", 0, 1)
    assert names(lab.frames(talk.frames, [DECKY])) == ["tcp_syn_fingerprint"]


@pytest.mark.parametrize("where", ENDS.values(), ids=ENDS)
def test_a_server_that_splits_its_syn_ack_has_no_fingerprint_of_one(
    lab: ReplayLab, where: dict[str, Any]
) -> None:
    """The decky is the client; the server's bare SYN has its options, but is no SYN-ACK."""
    client, server = where.get("server", DECKY), where.get("client", CLIENT)
    talk = Conversation(client, server, 45_000)
    talk.syn().add(1, "S", 0, None, b"", talk.options).add(0, "SA", 0, 1, b"", talk.options)
    talk.ack(1).send(TLS12.client).answer(TLS12.server).close()
    events = lab.frames(talk.frames, [client])
    seen = one(events, "tcp_handshake")
    assert (seen["src_ip"], seen["direction"]) == (client, "outbound")
    assert seen["rtt_server_us"] == 1_000
    assert "ja4ts" not in seen
    assert "ja4ts" not in one(events, "tls_session")


def test_times_are_those_of_the_packets_that_completed_the_events(lab: ReplayLab) -> None:
    events = lab.frames(talk().frames, [DECKY])
    frame = [(event.time_ns - START_NS) // MS for event in events]
    assert frame == [0, 2, 3, 4, 4, 7]


def test_strangers_are_not_told(lab: ReplayLab) -> None:
    assert (
        lab.frames(Conversation(CLIENT, STRANGER).open().send(b"x").close().frames, [DECKY]) == []
    )


# --- flow figures ---


def test_figures_are_exact(lab: ReplayLab) -> None:
    conversation = Conversation(step_ns=0)
    conversation.wait(0).syn().wait(0.010).synack().wait(0.030).ack()
    conversation.wait(0.1).send(bytes(100)).wait(0.002).answer(bytes(3_000), 1_500)
    conversation.wait(1).close()
    flow = one(lab.frames(conversation.frames, [DECKY]), "tcp_flow_timing")
    expected = {
        "packets": 9,
        "bytes": 3_100,
        "duration_s": 1.142,
        "mean_iat_ms": 142.75,
        "min_iat_ms": 0.0,
        "max_iat_ms": 1000.0,
        "retransmits": 0,
        "retransmits_server": 0,
        "bytes_client": 100,
        "bytes_server": 3_000,
        "packets_client": 5,
        "packets_server": 4,
        "close": "fin",
        "rtt_client_us": 30_000,
        "rtt_server_us": 10_000,
        "rtt_min_us": 1_000_000,
    }
    assert {name: flow[name] for name in expected} == expected


def test_retransmits_count_on_both_sides_and_keep_alives_do_not(lab: ReplayLab) -> None:
    conversation = Conversation().syn().syn().synack().synack().ack()
    conversation.send(bytes(1_000), 500)
    conversation.add(0, "PA", 501, 1, bytes(500))  # the second segment again
    conversation.add(0, "PA", 1, 1, bytes(700))  # and all of it in another cut
    conversation.answer(bytes(200))
    conversation.add(1, "PA", 1, 1_001, bytes(200))
    conversation.add(0, "A", 1_000, 201, b"\0")  # keep-alive: one byte before the next
    conversation.add(1, "A", 200, 1_001)
    events = lab.frames(conversation.close().frames, [DECKY])
    flow = one(events, "tcp_flow_timing")
    assert (flow["retransmits"], flow["retransmits_server"]) == (3, 2)
    emitted = one(events, "tcp_handshake")
    assert (emitted["syn_retransmits"], emitted["synack_retransmits"]) == (1, 1)


@pytest.mark.parametrize("how", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_an_answer_before_the_final_ack_is_mid_stream(lab: ReplayLab, how: Flight) -> None:
    """With Fast Open, a server may answer the hello of a SYN at once."""
    talk = Conversation().syn(data=how.client)
    talk.add(1, "SA", 0, 1 + len(how.client), b"", talk.options)
    talk.sent[0] += len(how.client)
    events = lab.frames(talk.answer(how.server).ack().close().frames, [DECKY])
    session, hello = one(events, "tls_session"), one(events, "tls_client_hello")
    assert session["handshake"] == "unseen"
    assert "ja4" not in session
    assert "handshake" not in hello
    assert hello["conn_id"] == session["conn_id"]


@pytest.mark.parametrize("how", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_an_answer_whose_syn_ack_was_lost_is_reported_once(lab: ReplayLab, how: Flight) -> None:
    """With Fast Open. The client takes nothing before the SYN-ACK, so the server sends it again."""
    talk, taken = Conversation().syn(data=how.client), 1 + len(how.client)
    talk.sent[0] = taken
    talk.answer(how.server).wait(1)
    talk.syn().add(1, "SA", 0, taken, b"", talk.options)
    talk.sent[1] = 1
    events = lab.frames(talk.ack().answer(how.server).close().frames, [DECKY])
    session, hello = one(events, "tls_session"), one(events, "tls_client_hello")
    assert session["ja4"] == hello["ja4"]
    assert hello["conn_id"] == session["conn_id"]


@pytest.mark.parametrize("lost", [[3], [5], [3, 5]])
def test_an_aborted_upload_is_ended_by_the_reset_that_counts(
    lab: ReplayLab, lost: list[int]
) -> None:
    """Only if the last segment is lost, the first RST comes after what the decky has."""
    upload = Conversation().open()
    for number in range(6):
        sent = len(upload.frames)
        upload.send(b"x" * 1_000)
        if number in lost:
            del upload.frames[sent:]
    next_seq = 1 + 1_000 * lost[0]
    upload.reset().add(1, "A", 1, next_seq).add(0, "R", next_seq, None)
    events = lab.frames(upload.frames, [DECKY])
    anomalies = [event["technique"] for event in of(events, "tcp_anomaly")]
    assert anomalies == (["refused_rst"] if 5 in lost else [])
    assert one(events, "tcp_flow_timing")["close"] == "rst"


@pytest.mark.parametrize("sender", [0, 1])
def test_a_reset_ends_it(lab: ReplayLab, sender: int) -> None:
    conversation = Conversation().open().send(b"hello").reset(sender)
    flow = one(lab.frames(conversation.frames, [DECKY]), "tcp_flow_timing")
    assert (flow["close"], flow["packets"]) == ("rst", 5)


def test_a_reset_outside_the_window_does_not(lab: ReplayLab) -> None:
    conversation = Conversation().open().send(b"hello")
    conversation.add(0, "R", 400_000_000, None).answer(b"still here").close()
    flow = one(lab.frames(conversation.frames, [DECKY]), "tcp_flow_timing")
    assert (flow["close"], flow["bytes"]) == ("fin", 15)


def test_one_fin_does_not_end_it(lab: ReplayLab) -> None:
    conversation = Conversation().open().send(b"request")
    conversation.add(0, "FA", 8, 1)
    conversation.sent[0] = 9
    conversation.answer(b"a long answer")
    flow = one(lab.frames(conversation.frames, [DECKY]), "tcp_flow_timing")
    assert (flow["close"], flow["bytes_server"]) == ("shutdown", 13)


def test_idle_is_by_the_captures_clock(lab: ReplayLab) -> None:
    quiet = Conversation().open().send(b"hello")
    other = Conversation(client_port=40_001, start_ns=START_NS + 121 * SECOND).open()
    events = lab.frames(in_time(quiet, other.send(b"x")), [DECKY])
    flows = {flow["src_port"]: flow for flow in of(events, "tcp_flow_timing")}
    assert flows[40_000]["close"] == "idle"
    assert flows[40_000]["time_ns"] == START_NS + 3 * MS
    assert flows[40_001]["close"] == "shutdown"


@pytest.mark.parametrize(("seconds", "close"), [(0, "shutdown"), (125, "idle")])
def test_connections_end_in_the_order_of_their_times(
    lab: ReplayLab, seconds: int, close: str
) -> None:
    """Then by their 4-tuples: so each replay emits the same one of several equal ones."""
    order = [(n // 2 * MS, 40_000 + 7 * n % 30) for n in range(30)]
    talks = [
        Conversation(client_port=port, start_ns=START_NS + offset_ns).open().send(b"x")
        for offset_ns, port in order
    ]
    captured = in_time(*talks, *((later(seconds),) if seconds else ()))
    flows = of(lab.frames(captured, [DECKY]), "tcp_flow_timing")
    ended = [(flow["time_ns"], flow["src_port"]) for flow in flows if flow["close"] == close]
    assert ended == sorted(ended)
    assert len(ended) == 30
    with kernel(lab, DEDUP):
        flow = one(lab.frames(captured, [DECKY], DEDUP), "tcp_flow_timing")
    assert flow["src_port"] == min(port for offset_ns, port in order if not offset_ns)


def assert_ends(flow: dict[str, object], close: str, time_ns: int) -> None:
    """It ends at that time, 2 s after the client's five bytes."""
    expected = {"close": close, "time_ns": time_ns, "duration_s": 2.006, "packets": 6, "bytes": 5}
    expected |= {"bytes_accepted_client": 5, "bytes_accepted_server": 0, "retransmits": 0}
    assert {name: flow[name] for name in expected} == expected


@pytest.mark.parametrize(("client", "server"), [(CLIENT, DECKY), (CLIENT6, DECKY6)])
def test_an_ack_with_refused_data_ends_a_connection_when_it_comes(
    lab: ReplayLab, client: str, server: str
) -> None:
    """The data are behind a FIN. A sweep finds the end."""
    talk = Conversation(client, server).open().send(b"hello")
    talk.add(0, "FA", 6, 1).add(1, "FA", 1, 7).wait(2).add(0, "PA", 7, 2, b"late")
    events = lab.frames(in_time(talk, later(10)), [DECKY, DECKY6])
    assert_ends(one(events, "tcp_flow_timing"), "fin", talk.frames[-1].time_ns)
    assert one(events, "tcp_anomaly")["technique"] == "data_after_fin"


@pytest.mark.parametrize(("client", "server"), [(CLIENT, DECKY), (CLIENT6, DECKY6)])
def test_a_doubted_reset_ends_a_connection_when_it_comes(
    lab: ReplayLab, client: str, server: str
) -> None:
    """The decky may have taken the data with the old ACK, and it does not go on."""
    talk = Conversation(client, server).open().send(b"hello").ack(1).wait(2)
    talk.add(0, "PA", 6, -5, b"late").add(0, "R", 6, None)
    events = lab.frames(in_time(talk, later(10)), [DECKY, DECKY6])
    assert_ends(one(events, "tcp_flow_timing"), "rst", talk.frames[-1].time_ns)


def test_119_seconds_are_not_idle(lab: ReplayLab) -> None:
    quiet = Conversation().open().send(b"hello").wait(119).send(b"again").close()
    flow = one(lab.frames(quiet.frames, [DECKY]), "tcp_flow_timing")
    assert (flow["close"], flow["max_iat_ms"]) == ("fin", 119001.0)


def test_a_new_handshake_on_the_same_4_tuple_begins_a_new_connection(lab: ReplayLab) -> None:
    first = Conversation().open().send(b"one")
    second = Conversation(start_ns=START_NS + 5 * SECOND, client_iss=9_999, server_iss=77)
    second.open().send(b"two!").close()
    flows = of(lab.frames(in_time(first, second), [DECKY]), "tcp_flow_timing")
    assert [(flow["bytes"], flow["close"]) for flow in flows] == [(3, "idle"), (4, "fin")]


def test_late_segments_make_no_ghost(lab: ReplayLab) -> None:
    conversation = Conversation().open().send(b"hello").close()
    conversation.wait(3).add(1, "A", 2, 7).wait(3).add(1, "R", 2, None)
    flows = of(lab.frames(conversation.frames, [DECKY]), "tcp_flow_timing")
    assert [flow["packets"] for flow in flows] == [7]


@pytest.mark.parametrize(("seconds", "late", "midstream"), [(5, 2, 0), (15, 0, 1)])
def test_an_ended_flow_lingers_for_late_segments_and_is_then_deleted(
    lab: ReplayLab, seconds: float, late: int, midstream: int
) -> None:
    ended = Conversation().open().send(b"hello").close()
    between = Conversation(client_port=40_001, start_ns=ended.now_ns).wait(seconds - 1).syn()
    later = Conversation(start_ns=between.now_ns).wait(1).send(b"again").ack(1)
    lab.frames(in_time(ended, between, later), [DECKY])
    counters = Tables(lab.loaded.maps).counters()
    assert (counters["frames_late"], counters["midstream_inserts"]) == (late, midstream)


def test_scan_probes_are_counted_not_told(lab: ReplayLab) -> None:
    connect_scan = Conversation().open().reset()
    events = lab.frames(Conversation().syn().synack().ack().frames, [DECKY])
    assert of(events, "tcp_flow_timing") == []
    assert lab.last is not None
    assert lab.last.pipeline.counts["flow_probes"] == 1
    assert len(of(lab.frames(connect_scan.frames, [DECKY]), "tcp_flow_timing")) == 1


@pytest.mark.parametrize("after", ["S", "SA"])
def test_half_open_connections_are_no_flow(lab: ReplayLab, after: str) -> None:
    conversation = Conversation().syn()
    if after == "SA":
        conversation.synack()
    events = lab.frames(conversation.reset().wait(130).frames, [DECKY])
    assert names(events) == ["tcp_syn_fingerprint"]


def test_a_connection_begun_before_is_told(lab: ReplayLab) -> None:
    conversation = Conversation()
    for _ in range(4):
        conversation.send(b"middle").ack(1)
    flow = one(lab.frames(conversation.frames, [DECKY]), "tcp_flow_timing")
    assert (flow["src_ip"], flow["dst_ip"], flow["packets"]) == (CLIENT, DECKY, 8)
    assert not {"rtt_client_us", "rtt_server_us"} & flow.keys()


# --- direction ---


@pytest.mark.parametrize(
    ("client", "server", "host", "direction"),
    [
        (CLIENT, DECKY, "d-0", "inbound"),
        (DECKY, CLIENT, "d-0", "outbound"),
        (DECKY, DECKY_B, "d-1", "lateral"),
        (CLIENT6, DECKY6, "d-2", "inbound"),
        (DECKY6, CLIENT6, "d-2", "outbound"),
    ],
)
@pytest.mark.parametrize("ports", [(40_000, 443), (443, 40_000)])
def test_who_opened_it_is_the_source_of_every_event(
    lab: ReplayLab, client: str, server: str, host: str, direction: str, ports: tuple[int, int]
) -> None:
    conversation = Conversation(client, server, *ports)
    conversation.open().send(TLS12.client).answer(TLS12.server).close()
    events = lab.frames(conversation.frames, [DECKY, DECKY_B, DECKY6])
    assert len(events) == 6 + (direction != "inbound")
    for event in events:
        fields = dict(event.fields)
        acting = "d-0" if direction == "lateral" and event.name == "decky_initiated" else host
        assert (event.host, fields["direction"]) == (acting, direction)
        assert (fields["src_ip"], fields["src_port"]) == (client, ports[0])
        assert (fields["dst_ip"], fields["dst_port"]) == (server, ports[1])


# --- TLS ---


def test_post_quantum_hello_over_two_segments_in_both_orders(lab: ReplayLab) -> None:
    hello = TLS13.client[: 5 + int.from_bytes(TLS13.client[3:5], "big")]
    whole = one(lab.frames(Conversation().open().send(hello).frames, [DECKY]), "tls_client_hello")
    half = len(hello) // 2
    for order in ((0, 1), (1, 0)):
        conversation = Conversation().open()
        for n in order:
            conversation.add(0, "PA", 1 + n * half, 1, hello[n * half :][: half + n])
        emitted = one(lab.frames(conversation.frames, [DECKY]), "tls_client_hello")
        assert emitted["quality"] == "reassembled"
        changed = {name for name in whole if emitted[name] != whole[name]}
        assert changed <= {"quality", "time_ns"}


def test_the_handshake_is_known_although_data_came_before_its_ack(lab: ReplayLab) -> None:
    """The server speaks before the final ACK, so the connection is entered as mid-stream."""
    conversation = Conversation().syn().synack()
    conversation.answer(TLS12.server).send(TLS12.client)
    conversation.add(0, "A", conversation.sent[0], 1).close()
    hello = one(lab.frames(conversation.frames, [DECKY]), "tls_client_hello")
    assert {"ja4l_rtt_ms", "rtt_server_us"} <= hello.keys()


# --- budgets and deduplication ---


def test_a_syn_that_the_budget_cut_is_told_from_its_handshake(lab: ReplayLab) -> None:
    tight = replace(SETTINGS, budgets=Budgets(syn_records_per_second=1, syn_burst=1))
    attempts = [
        Conversation(client_port=40_000 + n, start_ns=START_NS + n * MS).syn() for n in range(5)
    ]
    honest = Conversation(client_port=50_000, start_ns=START_NS + 9 * MS).open().send(b"x")
    with kernel(lab, tight):
        events = lab.frames(in_time(*attempts, honest), [DECKY])
    emitted = of(events, "tcp_syn_fingerprint")
    assert [syn["src_port"] for syn in emitted] == [40_000, 50_000]
    assert emitted[1]["time_ns"] == START_NS + 9 * MS
    assert lab.last is not None
    assert lab.last.tables.counters()["syn_over_budget"] == 5


def test_deduplication_tells_once_and_sums_up(lab: ReplayLab) -> None:
    """The kernel suppresses nothing here, so the agent sees every repeat."""
    talks = [talk(client_port=40_000 + n, start_ns=START_NS + n * SECOND) for n in range(4)]
    events = lab.frames(in_time(*talks), [DECKY], DEDUP)
    once = ("tcp_syn_fingerprint", "tcp_handshake", "tls_client_hello", "tls_session")
    for name in (*once, "tls_certificate", "tcp_flow_timing"):
        assert len(of(events, name)) == 1, name
    summaries = {summary["event"]: summary for summary in of(events, "dedup_summary")}
    assert summaries.keys() == {*once, "tls_certificate", "tcp_flow_timing"}
    assert {summary["count"] for summary in summaries.values()} == {3}
    assert {summary["deckies"] for summary in summaries.values()} == {1}
    hello = summaries["tls_client_hello"]
    first = one(events, "tls_client_hello")
    names = "decoy.example|h2|http/1.1"
    assert hello["key"] == f"{DECKY}|{first['ja3']}|{first['ja4']}|{names}"
    assert hello["src_ip"] == CLIENT
    flows = summaries["tcp_flow_timing"]
    flow = one(events, "tcp_flow_timing")
    assert (flows["bytes"], flows["packets"]) == (3 * flow["bytes"], 3 * flow["packets"])
    assert flows["largest_bytes"] == flow["bytes"]


def test_the_old_keys_remain_with_compat(lab: ReplayLab) -> None:
    talks = [
        Conversation(CLIENT, decky, start_ns=START_NS + n * SECOND)
        .open()
        .send(TLS12.client)
        .answer(TLS12.server)
        .close()
        for n, decky in enumerate((DECKY, "198.51.100.8"))
    ]
    deckies = [DECKY, "198.51.100.8"]
    old = lab.frames(in_time(*talks), deckies, replace(DEDUP, compat="decnet"))
    for name in ("tcp_syn_fingerprint", "tls_client_hello", "tls_session", "tls_certificate"):
        assert len(of(old, name)) == 1, name
    new = lab.frames(in_time(*talks), deckies, DEDUP)
    for name in ("tcp_syn_fingerprint", "tls_client_hello", "tls_session"):
        assert len(of(new, name)) == 2, name
    assert len(of(new, "tls_certificate")) == 1


def test_what_is_new_is_never_concealed_for_long(lab: ReplayLab) -> None:
    """200 names in two seconds: the bound, one a second, and the names of others."""
    talks = [
        Conversation(client_port=40_000 + n, start_ns=START_NS + n * 10 * MS).open().send(named(n))
        for n in range(200)
    ]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*talks), [DECKY], DEDUP)
    hellos = of(events, "tls_client_hello")
    assert 64 < len(hellos) <= 64 + 3
    (rest,) = [
        summary
        for summary in of(events, "dedup_summary")
        if summary["event"] == "tls_client_hello" and summary["key"] == "*"
    ]
    assert rest["count"] == 200 - len(hellos)
    assert len(rest["names"]) == 32
    assert not {hello["sni"] for hello in hellos} & set(rest["names"])


def named(number: int) -> bytes:
    """A hello for a name of its own."""
    name = f"{number}.example".encode()
    return record(message(1, client_hello((0, vector(2, b"\0" + vector(2, name))))))


def test_events_of_a_connection_without_a_handshake_say_so(lab: ReplayLab) -> None:
    frames = talk().frames
    events = lab.frames(frames[3:], [DECKY])
    for name in ("tls_client_hello", "tls_session", "tls_certificate", "tcp_flow_timing"):
        assert one(events, name)["handshake"] == "unseen", name
    (session,) = [event for event in events if event.name == "tls_session"]
    assert session.severity == 4, "both ends took part in it"
    whole = lab.frames(frames, [DECKY])
    assert not any("handshake" in dict(event.fields) for event in whole)


def test_a_forged_answer_is_no_warning(lab: ReplayLab) -> None:
    """A ServerHello to a decky that has asked for nothing, from any address."""
    forged = Conversation(DECKY, CLIENT, client_port=40_000).answer(TLS12.server)
    events = lab.frames(forged.frames, [DECKY])
    (session,) = [event for event in events if event.name == "tls_session"]
    assert session.severity == 6
    assert dict(session.fields)["handshake"] == "unseen"


@pytest.mark.parametrize("answer", ["R", "A"])
def test_what_a_decky_answers_with_a_reset_alone_is_not_reported(
    lab: ReplayLab, answer: str
) -> None:
    """A part of a hello in a connection that it does not know. An ACK shows that it does."""
    unknown = Conversation().send(TLS12.client[:100])
    unknown.add(1, answer, 1, 101 if answer == "A" else None)
    events = lab.frames(unknown.frames, [DECKY])
    assert names(events) == (["tls_client_hello"] if answer == "A" else [])


def test_a_window_is_not_renewed(lab: ReplayLab) -> None:
    talks = [
        talk(client_port=40_000 + n, start_ns=START_NS + at * SECOND)
        for n, at in enumerate((0, 150, 299, 301, 302))
    ]
    events = lab.frames(in_time(*talks), [DECKY], DEDUP)
    hellos = of(events, "tls_client_hello")
    assert [hello["src_port"] for hello in hellos] == [40_000, 40_003]
    counts = [s["count"] for s in of(events, "dedup_summary") if s["event"] == "tls_client_hello"]
    assert counts == [2, 1]


def test_summaries_include_what_the_kernel_suppressed(lab: ReplayLab) -> None:
    scan = [
        Conversation(server_port=1_000 + n, start_ns=START_NS + n * SECOND // 2).syn()
        for n in range(40)
    ]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*scan), [DECKY], DEDUP)
    assert len(of(events, "tcp_syn_fingerprint")) == 1
    assert lab.last is not None
    counters = lab.last.tables.counters()
    assert counters["syn_suppressed"] > 30
    summary = one(events, "dedup_summary")
    assert summary["count"] == 39
    assert summary["deckies"] == 1
    assert summary["event"] == "tcp_syn_fingerprint"
    assert summary["last_seen"] > summary["first_seen"]


def test_a_scan_of_two_deckies_is_seen_on_both(lab: ReplayLab) -> None:
    """One source and one stack: neither the agent nor the kernel suppresses the second decky."""
    scan = [
        Conversation(CLIENT, decky, 40_000 + n, start_ns=START_NS + n * SECOND).syn()
        for n, decky in enumerate((DECKY, DECKY_B, DECKY, DECKY_B))
    ]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*scan), [DECKY, DECKY_B], DEDUP)
    assert [syn["dst_ip"] for syn in of(events, "tcp_syn_fingerprint")] == [DECKY, DECKY_B]
    assert [summary["count"] for summary in of(events, "dedup_summary")] == [1, 1]


def test_a_suppressed_syn_whose_handshake_completes_counts_once(lab: ReplayLab) -> None:
    talks = [talk(client_port=40_000 + n, start_ns=START_NS + 2 * n * SECOND) for n in range(5)]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*talks), [DECKY], DEDUP)
    assert lab.last is not None
    assert lab.last.tables.counters()["syn_suppressed"] == 4
    counts = {summary["event"]: summary["count"] for summary in of(events, "dedup_summary")}
    assert counts["tcp_syn_fingerprint"] == counts["tcp_handshake"] == 4


CUT = TLS12.client[:100]


@pytest.mark.parametrize(
    "again",
    [
        lambda c: c.open().send(TLS12.client).answer(TLS12.server).close(),
        lambda c: c.open().send(TLS13.client).answer(TLS13.server).close(),
        lambda c: c.open().send(CUT).close(),
        lambda c: c.open().close(),
        lambda c: c.open().send(b"GET / HTTP/1.0\r\n\r\n").answer(b"x" * 5_000).close(1),
        lambda c: c.open().send(TLS12.client),
    ],
    ids=["TLS 1.2", "TLS 1.3", "a cut hello", "no data", "no TLS", "never closed"],
)
def test_the_kernel_suppresses_what_the_agent_would_have_deduplicated(
    lab: ReplayLab, again: Callable[[Conversation], Conversation]
) -> None:
    talks = [
        again(Conversation(client_port=40_000 + n, start_ns=START_NS + 2 * n * SECOND))
        for n in range(5)
    ]
    plain = lab.frames(in_time(talk(client_port=50_000), *talks[1:]), [DECKY], DEDUP)
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(talk(client_port=50_000), *talks[1:]), [DECKY], DEDUP)
    assert lab.last is not None
    assert lab.last.tables.counters()["handshakes_suppressed"] == 4
    assert sorted(map(repr, events)) == sorted(map(repr, plain))


FLIGHTS = [
    TLS12,
    TLS13,
    handshake(ssl.TLSVersion.TLSv1_2, resumed=True),
    handshake(ssl.TLSVersion.TLSv1_3, resumed=True),
    handshake(ssl.TLSVersion.TLSv1_2, mutual=True),
    handshake(ssl.TLSVersion.TLSv1_3, retry=True),
]


def apart(talk: Conversation, client: bytes, server: bytes, *, again: bool) -> Conversation:
    """The ClientHello in a segment of its own, perhaps twice, and the rest after the server's."""
    end = 5 + int.from_bytes(client[3:5], "big")
    talk.open().send(client[:end])
    if again:
        talk.add(0, "PA", 1, 1, client[:end])
    return talk.answer(server).send(client[end:]).close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(FLIGHTS),
            st.sampled_from(FLIGHTS),
            st.sampled_from([CLIENT, CLIENT, STRANGER]),
            st.sampled_from([DECKY, DECKY_B]),
            st.booleans(),
            st.sampled_from([1, 2, 40, 290]),
        ),
        min_size=2,
        max_size=7,
    )
)
def test_suppressed_hellos_change_no_event(
    lab: ReplayLab, sent: list[tuple[Flight, Flight, str, str, bool, int]]
) -> None:
    """Any hellos of both sides, within windows and after their ends."""
    talks, start_ns = [], START_NS
    for n, (client, server, source, decky, again, later_s) in enumerate(sent):
        talk = Conversation(source, decky, client_port=40_000 + n, start_ns=start_ns)
        talks.append(apart(talk, client.client, server.server, again=again))
        start_ns += later_s * SECOND
    frames = in_time(*talks)
    plain = lab.frames(frames, [DECKY, DECKY_B], DEDUP)
    with kernel(lab, DEDUP):
        events = lab.frames(frames, [DECKY, DECKY_B], DEDUP)
    assert sorted(map(repr, events)) == sorted(map(repr, plain))


KNOWN = TLS12.client[: 5 + int.from_bytes(TLS12.client[3:5], "big")]
OTHER = KNOWN.replace(b"decoy.example", b"other.example")
STARTTLS = b"\r\nSTARTTLS\r\n"


@pytest.mark.parametrize(
    ("lines", "reported"),
    [
        ([(0, KNOWN), (0, STARTTLS + OTHER)], False),
        ([(0, KNOWN), (0, OTHER)], False),
        ([(0, KNOWN), (1, b"500 what?\r\n"), (0, STARTTLS), (1, b"220 now\r\n"), (0, OTHER)], True),
        ([(0, KNOWN), (0, STARTTLS + OTHER), (1, b"500 what?\r\n220 now\r\n")], True),
    ],
    ids=["answered", "answered, in one run of records", "as a line", "as a line, at once"],
)
def test_a_known_hello_conceals_no_other_and_is_replaced_by_none(
    lab: ReplayLab, lines: list[tuple[int, bytes]], reported: bool
) -> None:
    """Of two hellos the kernel suppresses the first, which may be the answered one."""
    before = apart(Conversation(), TLS12.client, TLS12.server, again=False)
    talk = Conversation(client_port=40_001, start_ns=START_NS + SECOND).open()
    for sender, data in lines:
        (talk.send, talk.answer)[sender](data)
    frames = in_time(before, talk.answer(TLS12.server).close())
    plain = lab.frames(frames, [DECKY], DEDUP)
    with kernel(lab, DEDUP):
        events = lab.frames(frames, [DECKY], DEDUP)
    assert lab.last is not None
    assert lab.last.tables.counters()["hellos_suppressed"] == 1
    hellos = [event["sni"] for event in of(events, "tls_client_hello")]
    assert hellos == ["decoy.example"] + ["other.example"] * reported
    sessions = [event["sni"] for event in of(events, "tls_session")]
    assert sessions == hellos
    if reported:
        return
    assert sorted(map(repr, events)) == sorted(map(repr, plain))


def test_the_tenth_hello_of_a_client_costs_no_sample(lab: ReplayLab) -> None:
    talks = [
        apart(
            Conversation(client_port=40_000 + n, start_ns=START_NS + n * SECOND),
            TLS13.client,
            TLS13.server,
            again=False,
        )
        for n in range(10)
    ]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*talks), [DECKY], DEDUP)
    assert lab.last is not None
    assert lab.last.tables.counters()["hellos_suppressed"] == 9
    counts = {summary["event"]: summary["count"] for summary in of(events, "dedup_summary")}
    assert counts["tls_client_hello"] == counts["tls_session"] == 9


def test_an_evicted_hello_is_no_longer_suppressed(
    lab: ReplayLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressed_hello, "EMITTED_HELLOS", 1)
    sent = [(TLS12, TLS12), (TLS13, TLS13), (TLS12, TLS13), (TLS12, FLIGHTS[3])]
    talks = [
        apart(
            Conversation(client_port=40_000 + n, start_ns=START_NS + 2 * n * SECOND),
            client.client,
            server.server,
            again=False,
        )
        for n, (client, server) in enumerate(sent)
    ]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*talks), [DECKY], DEDUP)
    assert lab.last is not None
    assert lab.last.tables.counters()["hellos_suppressed"] == 1
    assert lab.last.pipeline.counts["hellos_evicted"] == 1
    sessions = {session["src_port"]: session for session in of(events, "tls_session")}
    assert "ja3" not in sessions[40_002]
    assert sessions[40_003]["ja3"] == sessions[40_000]["ja3"]
    counts = {summary["event"]: summary["count"] for summary in of(events, "dedup_summary")}
    assert counts["tls_client_hello"] == 2


def test_a_scan_that_goes_on_loses_no_count_where_a_window_ends(lab: ReplayLab) -> None:
    """No sweep lies between the window's end and the SYN that opens the next."""
    every = [n * 7 * SECOND // 10 for n in range(431)]
    scan = [
        Conversation(client_port=20_000 + n, start_ns=START_NS + at).syn()
        for n, at in enumerate(every)
    ]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*scan), [DECKY], DEDUP)
    emitted = len(of(events, "tcp_syn_fingerprint"))
    suppressed = sum(summary["count"] for summary in of(events, "dedup_summary"))
    assert emitted == 2
    assert emitted + suppressed == len(scan)


def test_kernel_suppression_ends_with_the_window(lab: ReplayLab) -> None:
    syns = [
        Conversation(client_port=40_000 + n, start_ns=START_NS + at * SECOND).syn()
        for n, at in enumerate((0, 2, 299, 301, 303))
    ]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*syns), [DECKY], DEDUP)
    emitted = of(events, "tcp_syn_fingerprint")
    assert [syn["src_port"] for syn in emitted] == [40_000, 40_003]
    assert [s["count"] for s in of(events, "dedup_summary")] == [2, 1]


def syn_at(seconds: float, source: str, port: int = 40_000) -> Conversation:
    start_ns = START_NS + round(seconds * SECOND)
    return Conversation(source, client_port=port, client_iss=port, start_ns=start_ns).syn()


@pytest.mark.parametrize("how", [DEDUP, SETTINGS])
def test_a_flood_from_spoofed_sources_leaves_the_windows_of_who_comes_again(
    lab: ReplayLab, monkeypatch: pytest.MonkeyPatch, how: Settings
) -> None:
    """The same whether the kernel or the agent suppressed the repeats."""
    monkeypatch.setattr(assembly, "Dedup", partial(Dedup, entries=64))
    honest = [syn_at(at, CLIENT, 40_000 + n) for n, at in enumerate((0, 1, 100, 101, 200))]
    flood = [syn_at(2 + n / 2, f"203.0.113.{n}") for n in range(200)]
    again = syn_at(150, "203.0.113.0", 41_000)
    with kernel(lab, how):
        events = lab.frames(in_time(*honest, *flood, again), [DECKY], DEDUP)
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert 130 <= sums["dedup_evicted"] <= 150
    syns = of(events, "tcp_syn_fingerprint")
    emitted = Counter(syn["src_ip"] for syn in syns)
    assert emitted[CLIENT] == 1
    # Its window made room for others': the kernel did not suppress it any longer.
    assert emitted["203.0.113.0"] == 2
    assert len(syns) == 202
    (summary,) = of(events, "dedup_summary")
    assert (summary["src_ip"], summary["count"]) == (CLIENT, 4)


def test_what_an_evicted_window_suppressed_is_summed_up(
    lab: ReplayLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every source sends twice, so there are too many suppressing windows for all to stay."""
    monkeypatch.setattr(assembly, "Dedup", partial(Dedup, entries=32))
    sent = [
        syn_at(n / 2 + later, f"203.0.113.{n}", 40_000 + later)
        for n in range(200)
        for later in (0, 1)
    ]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*sent), [DECKY], DEDUP)
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert sums["dedup_evicted"] > 100
    assert sums["syn_suppressed"] > 100
    assert sums["dedup_summaries_lost"] == 0
    emitted = Counter(syn["src_ip"] for syn in of(events, "tcp_syn_fingerprint"))
    for summary in of(events, "dedup_summary"):
        emitted[summary["src_ip"]] += summary["count"]
    assert emitted.keys() == {f"203.0.113.{n}" for n in range(200)}
    lost = [2 - count for count in emitted.values()]
    # The seed is random: a signature may take over the slot of another one, which is counted.
    assert set(lost) <= {0, 1}
    assert sum(lost) <= sums["syn_seen_overwrites"]


# --- the registry ---


def reloading(
    lab: ReplayLab, conversations: list[Conversation], at_ns: int, deckies: dict[str, str]
) -> Iterator[Frame]:
    """Frames in order. Before the first one at `at_ns` or later, the registry is replaced."""
    due = True
    for frame in in_time(*conversations):
        if due and frame.time_ns >= at_ns:
            due = False
            assert lab.last is not None
            registry = Registry(Decky(name, parse_address(a)) for a, name in deckies.items())
            lab.last.pipeline.replace_registry(registry)
        yield frame


def later(seconds: float) -> Conversation:
    """Another frame of a decky at that time, which makes the replay drain its ring."""
    datagram = wire.ipv4(bytes(8), STRANGER, DECKY, protocol=wire.UDP)
    other = Conversation(start_ns=START_NS + round(seconds * SECOND))
    return other.frame(wire.ethernet(datagram))


def test_connections_of_a_decky_that_leaves_end(lab: ReplayLab) -> None:
    leaving = Conversation().open().send(TLS12.client[:100])
    staying = Conversation(server=DECKY_B, client_port=41_000).open().send(b"x")
    lateral = Conversation(DECKY, DECKY_B, client_port=42_000).open().send(b"y")
    after = Conversation(start_ns=START_NS + 4 * SECOND, client_port=43_000).open().send(b"z")
    talks = [leaving, staying, lateral, after, later(2)]
    frames = reloading(lab, talks, START_NS + 3 * SECOND, {DECKY_B: "d-1"})
    events = lab.frames(frames, [DECKY, DECKY_B])
    flows = {flow["src_port"]: flow for flow in of(events, "tcp_flow_timing")}
    closes = {port: (flow["close"], flow["host"]) for port, flow in flows.items()}
    assert closes == {
        40_000: ("removed", "d-0"),
        41_000: ("shutdown", "d-1"),
        42_000: ("shutdown", "d-1"),
    }
    assert one(events, "tls_client_hello")["quality"] == "truncated"


def test_a_decky_that_comes_is_watched_and_a_name_that_changes_is_told(lab: ReplayLab) -> None:
    renamed = Conversation().open().send(b"x").wait(4).send(b"y")
    fresh = Conversation(server=DECKY_B, start_ns=START_NS + 4 * SECOND).open().send(b"x")
    frames = reloading(
        lab, [renamed, fresh, later(2)], START_NS + 3 * SECOND, {DECKY: "new", DECKY_B: "b"}
    )
    events = lab.frames(frames, [DECKY])
    flows = [(flow["host"], flow["close"]) for flow in of(events, "tcp_flow_timing")]
    assert sorted(flows) == [("b", "shutdown"), ("new", "shutdown")]
    assert [syn["host"] for syn in of(events, "tcp_syn_fingerprint")] == ["d-0", "b"]


# --- bounds ---


@pytest.mark.parametrize(("seconds", "present"), [(5, 20), (12, 0)])
def test_a_source_is_counted_down_when_its_connections_are_deleted(
    lab: ReplayLab, seconds: int, present: int
) -> None:
    """Otherwise each source would stay at its cap for ever. Ended connections linger for 10 s."""
    sources = lab.loaded.maps["sources"]
    for key, value in sources.items():
        if any(value):
            sources.update(key, bytes(sources.value_size))
    talks = [talk(client_port=40_000 + n, start_ns=START_NS + n * MS) for n in range(20)]
    lab.frames(in_time(*talks, later(seconds), later(seconds + 2)), [DECKY])
    assert sum(int.from_bytes(value[16:], "little") for _, value in sources.items()) == present


@pytest.fixture(scope="module")
def small() -> Iterator[ReplayLab]:
    """A lab with room for 64 connections."""
    with ReplayLab(table_sizes={"MAX_FLOWS": 64}) as lab:
        yield lab


def test_a_crowded_table_evicts_the_most_idle_of_the_biggest_source(
    small: ReplayLab,
) -> None:
    greedy = [
        Conversation(client_port=40_000 + n, start_ns=START_NS + n * MS).open().send(b"x")
        for n in range(50)
    ]
    honest = [
        Conversation(f"203.0.113.{n}", start_ns=START_NS + n * MS).open().send(b"x")
        for n in range(1, 11)
    ]
    events = small.frames(in_time(*greedy, *honest, later(1.5), later(3)), [DECKY])
    flows = of(events, "tcp_flow_timing")
    evicted = [flow for flow in flows if flow["close"] == "evicted"]
    # 60 of 64 are three more than nine tenths.
    assert [(flow["src_ip"], flow["src_port"]) for flow in evicted] == [
        (CLIENT, 40_000),
        (CLIENT, 40_001),
        (CLIENT, 40_002),
    ]
    assert len(flows) == 60
    assert small.last is not None
    assert small.last.pipeline.counts["flows_evicted"] == 3
    assert small.last.tables.counters()["flow_insert_failed"] == 0


def test_ended_connections_are_evicted_first(small: ReplayLab) -> None:
    ended = [talk(client_port=40_000 + n, start_ns=START_NS + n * MS) for n in range(40)]
    open_now = [
        Conversation(client_port=50_000 + n, start_ns=START_NS + n * MS).open().send(b"x")
        for n in range(22)
    ]
    events = small.frames(in_time(*ended, *open_now, later(1.5)), [DECKY])
    closes = [flow["close"] for flow in of(events, "tcp_flow_timing")]
    assert sorted(closes) == ["fin"] * 40 + ["shutdown"] * 22


def full(count: int) -> list[Conversation]:
    """Open connections, each of another source."""
    return [
        Conversation(f"203.0.113.{n}", start_ns=START_NS + n * MS).open().send(b"x")
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("server", [DECKY, DECKY6])
def test_a_connection_without_room_in_the_table_is_mid_stream(
    small: ReplayLab, server: str
) -> None:
    """With the ClientHello in the client's first segment, and all that follows."""
    client = CLIENT6 if server == DECKY6 else CLIENT
    late = (
        Conversation(client, server, start_ns=START_NS + 500 * MS)
        .open()
        .send(TLS12.client)
        .answer(TLS12.server)
        .close()
    )
    events = small.frames(in_time(*full(64), late), [DECKY, DECKY6])
    assert small.last is not None
    assert small.last.tables.counters()["flow_insert_failed"] > 0
    for name in ("tls_client_hello", "tls_session", "tls_certificate"):
        assert [event["src_ip"] for event in of(events, name)] == [client]
    (flow,) = (flow for flow in of(events, "tcp_flow_timing") if flow["src_ip"] == client)
    assert [seen["src_ip"] for seen in of(events, "tcp_handshake")].count(client) == 1
    # All but the handshake's last ACK, which carried nothing.
    assert flow["packets"] == len(late.frames) - 1
    assert flow["close"] == "fin"


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_a_source_at_its_share_evicts_its_own_idlest(small: ReplayLab, client: str) -> None:
    """All its handshakes are reported, and it has room again after the next sweep."""
    server = DECKY6 if client == CLIENT6 else DECKY
    settings = small.loaded.maps["settings"]
    before = settings.lookup(bytes(4))
    assert before is not None
    parsed = abi.SETTINGS.parse(before)
    parsed.flows_per_source = 10
    settings.update(bytes(4), abi.SETTINGS.build(parsed))

    def some(count: int, port: int, seconds: float = 0.0) -> list[Conversation]:
        start_ns = START_NS + round(seconds * SECOND)
        return [
            Conversation(client, server, port + n, start_ns=start_ns + n * MS).open().send(b"x")
            for n in range(count)
        ]

    others = [
        Conversation(f"203.0.113.{n}", start_ns=START_NS + n * MS).open().send(b"x")
        for n in range(1, 6)
    ]
    talks = [*some(14, 40_000), *some(1, 50_000, 1.5), *others]
    events = small.frames(in_time(*talks, later(1.2), later(3)), {server, DECKY})
    settings.update(bytes(4), before)
    ports = [seen["src_port"] for seen in of(events, "tcp_handshake") if seen["src_ip"] == client]
    assert sorted(ports) == [*range(40_000, 40_014), 50_000]
    flows = of(events, "tcp_flow_timing")
    evicted = [flow for flow in flows if flow["close"] == "evicted"]
    assert {flow["src_ip"] for flow in evicted} == {client}
    assert evicted[0]["src_port"] == 40_000
    assert small.last is not None
    counters = small.last.tables.counters()
    assert counters["flow_source_capped"] > 0
    assert counters["handshakes"] == 10 + 1 + 5, "the last one found room"


@pytest.mark.parametrize("known", [True, False], ids=["SYN emitted", "SYN lost too"])
def test_a_lost_sample_of_a_handshake_is_made_good_once(small: ReplayLab, known: bool) -> None:
    """The entry is as the kernel leaves it when the ring is full."""

    def lose() -> None:
        table = small.loaded.maps["flows"]
        schema = abi.SCHEMAS["flow"]
        for key, value in list(table.items()):
            flow = schema.parse(value)
            flow.synack.ip_flags |= abi.HANDSHAKE_LOST
            flow.syn.ip_flags |= abi.SYN_KNOWN if known else 0
            table.update(key, schema.build(flow))

    opened = Conversation().open()
    data = Conversation(start_ns=START_NS + 20 * SECOND)
    more = [*in_time(later(2.5), later(8), later(9)), *data.send(b"x").close().frames]
    events = small.frames(then([*opened.frames, *later(0.1).frames], lose, more), [DECKY])
    # Its own sample did reach the ring, so there is one more.
    assert len(of(events, "tcp_handshake")) == 2
    first, second = of(events, "tcp_handshake")
    assert first == second
    assert len(of(events, "tcp_syn_fingerprint")) == (1 if known else 2)
    assert small.last is not None
    assert small.last.pipeline.counts["handshakes_made_good"] == 1


@pytest.mark.parametrize(
    ("known", "room"),
    [(True, 100), (False, 0), (False, 100)],
    ids=["SYN emitted", "SYN lost too", "SYN lost too, and there is room for it"],
)
@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_lost_handshakes_with_an_open_window_are_only_counted(
    lab: ReplayLab, monkeypatch: pytest.MonkeyPatch, client: str, known: bool, room: int
) -> None:
    """The samples of both found the ring full."""
    monkeypatch.setattr(sweeping, "SWEPT_HANDSHAKES", room)
    server = DECKY6 if client == CLIENT6 else DECKY

    def lose() -> None:
        table = lab.loaded.maps["flows"]
        schema = abi.SCHEMAS["flow"]
        for key, value in list(table.items()):
            flow = schema.parse(value)
            flow.synack.ip_flags |= abi.HANDSHAKE_LOST
            flow.syn.ip_flags |= abi.SYN_KNOWN if known else 0
            table.update(key, schema.build(flow))

    talks = [
        Conversation(client, server, 40_000 + n, start_ns=START_NS + n * 100 * MS).open()
        for n in range(2)
    ]
    with kernel(lab, DEDUP):
        frames = then(in_time(*talks, later(0.5)), lose, in_time(later(2.5), later(5)))
        events = lab.frames(frames, [DECKY, DECKY6], DEDUP)
    assert lab.last is not None
    counts = lab.last.pipeline.counts
    assert counts["handshakes_lost"] == 0
    assert counts["handshakes_made_good"] == (2 if room and not known else 0)
    (summary,) = [s for s in of(events, "dedup_summary") if s["event"] == "tcp_handshake"]
    # The kernel has suppressed one itself.
    assert (summary["count"], summary["deckies"]) == (3, 1)


def test_a_lost_handshake_of_a_connection_that_ends_in_the_same_sweep_is_made_good_once(
    small: ReplayLab,
) -> None:
    """The samples of both its handshake and its end found the ring full."""

    def lose() -> None:
        table = small.loaded.maps["flows"]
        schema = abi.SCHEMAS["flow"]
        for key, value in list(table.items()):
            flow = schema.parse(value)
            flow.synack.ip_flags |= abi.HANDSHAKE_LOST
            flow.totals.end_sent = 0
            table.update(key, schema.build(flow))

    ended = talk()
    frames = then([*ended.frames, *later(0.1).frames], lose, in_time(later(2.5), later(8)))
    small.frames(frames, [DECKY])
    assert small.last is not None
    assert small.last.pipeline.counts["handshakes_made_good"] == 1


def test_a_lost_handshake_of_a_connection_that_a_sweep_evicts_is_made_good(
    small: ReplayLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "SWEPT_HANDSHAKES", 20)

    def lose() -> None:
        table = small.loaded.maps["flows"]
        schema = abi.SCHEMAS["flow"]
        for key, value in list(table.items()):
            flow = schema.parse(value)
            flow.synack.ip_flags |= abi.HANDSHAKE_LOST
            table.update(key, schema.build(flow))

    events = small.frames(then(held(60), lose, in_time(later(0.6), later(1.2), later(5))), [DECKY])
    assert small.last is not None
    counts = small.last.pipeline.counts
    assert counts["flows_evicted"] == 3
    assert counts["handshakes_made_good"] + counts["handshakes_lost"] == 60
    assert 20 <= counts["handshakes_made_good"] <= 23
    assert len(of(events, "tcp_handshake")) == 60 + counts["handshakes_made_good"]


def counted_sources(lab: ReplayLab) -> int:
    """How many connections the kernel counts for all sources together."""
    return sum(
        int.from_bytes(value[16:], "little") for _, value in lab.loaded.maps["sources"].items()
    )


def forget_sources(lab: ReplayLab) -> None:
    sources = lab.loaded.maps["sources"]
    for key, value in sources.items():
        if any(value):
            sources.update(key, bytes(sources.value_size))


def then(frames: list[Frame], act: Callable[[], None], more: list[Frame]) -> Iterator[Frame]:
    """Replay frames; `act` is called between two of them, when the pipeline exists."""
    yield from frames
    act()
    yield from more


def entry(number: int, slot: int, close: int = 1) -> tuple[bytes, bytes]:
    """A connection as the kernel enters it, of a source with this slot."""
    schema = abi.SCHEMAS["flow"]
    value = schema.parse(bytes(schema.sizeof()))
    value.key = bytes([number]) * 36
    value.totals.update({"born_ns": number, "source_slot": slot, "close": close, "end_sent": 1})
    return bytes([number]) * 16, schema.build(value)


def held(count: int) -> list[Frame]:
    """So many open connections, each of another source."""
    return in_time(*full(count))


def test_connections_that_come_while_others_are_evicted_are_not_subtracted(
    small: ReplayLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended connections, of sources that had none when the sweep counted, are evicted first."""
    forget_sources(small)
    crowd = FlowTables.crowd

    def busy(tables: FlowTables, flows: int) -> int:
        for number in range(1, 4):
            small.loaded.maps["flows"].update(*entry(number, 16_000 + number))
        return crowd(tables, flows)

    def act() -> None:
        monkeypatch.setattr(FlowTables, "crowd", busy)

    small.frames(then(held(60), act, later(1.5).frames), [DECKY])
    assert small.last is not None
    # All three that were too many came meanwhile; the others are all counted, and none twice.
    assert small.last.pipeline.counts["flows_evicted"] == 0
    slots = small.loaded.maps["sources"]
    counts = [int.from_bytes(value[16:], "little") for _, value in slots.items()]
    assert max(counts) < 60
    assert sum(counts) == 60


@pytest.mark.parametrize(("count", "seconds"), [(60, 1.5), (10, 121.5)])
def test_a_replaced_connection_stays_counted(
    small: ReplayLab, monkeypatch: pytest.MonkeyPatch, count: int, seconds: float
) -> None:
    """It is replaced between the sweep's reading and its deletion, on eviction or on idling."""
    forget_sources(small)
    take = FlowTables.take
    replaced: list[bytes] = []

    def late(tables: FlowTables, flow: OpenFlow) -> OpenFlow | None:
        if not replaced:
            replaced.append(flow.entry)
            table = small.loaded.maps["flows"]
            other = abi.SCHEMAS["flow"].parse(flow.value)
            other.totals.born_ns = 1
            table.update(flow.entry, abi.SCHEMAS["flow"].build(other))
        return take(tables, flow)

    def act() -> None:
        monkeypatch.setattr(FlowTables, "take", late)

    present: list[int] = []

    def look() -> None:
        present.append(sum(batch.size for batch in small.loaded.maps["flows"].batches()))
        present.append(counted_sources(small))

    def frames() -> Iterator[Frame]:
        # The second frame confirms the first one's stamp, which is far from those before.
        yield from then(held(count), act, in_time(later(seconds), later(seconds + 0.1)))
        look()

    small.frames(frames(), [DECKY])
    assert replaced
    assert small.last is not None
    assert present == ([58, 58] if count == 60 else [1, 1])
    assert small.last.pipeline.counts["flows_evicted"] == (2 if count == 60 else 0)


def test_connections_that_are_gone_already_are_not_subtracted(
    lab: ReplayLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next sweep corrects a count too high. One too low would lift the cap of a source."""
    forget_sources(lab)
    delete_ended = FlowTables.delete_ended

    def late(tables: FlowTables, batch: FlowBatch, numbers: list[int], slots: Iterable[int]) -> int:
        for number in numbers[:1]:
            lab.loaded.maps["flows"].delete(batch.entries.key(number))
        return delete_ended(tables, batch, numbers, slots)

    counts: list[int] = []

    def frames() -> Iterator[Frame]:
        talks = [talk(client_port=40_000 + n, start_ns=START_NS + n * MS) for n in range(5)]
        yield from in_time(*talks)
        monkeypatch.setattr(FlowTables, "delete_ended", late)
        yield later(12).frames[0]
        counts.append(counted_sources(lab))
        monkeypatch.undo()
        yield later(14).frames[0]
        counts.append(counted_sources(lab))

    lab.frames(frames(), [DECKY])
    assert counts == [5, 0]


# --- mistakes of ours ---


@pytest.fixture
def survived(lab: ReplayLab) -> Iterator[list[str]]:
    """The reports about exceptions, which end nothing here."""
    before, lines = lab.containment, list[str]()
    lab.containment = Containment(lines.append)
    yield lines
    lab.containment = before


@pytest.mark.interpreted
def test_a_connection_that_cannot_be_ended_costs_no_other_its_events(
    lab: ReplayLab, survived: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the capture, each step is contained by itself."""
    talks = [
        Conversation(client_port=40_000 + n, start_ns=START_NS + n * MS)
        .open()
        .send(TLS12.client[:99])
        for n in range(5)
    ]
    touches = Conversation(client_port=50_000).open().reset()
    flow_of, finish = sweeping.flow_record, Connection.finish

    def bad_record(value: bytes) -> FlowRecord:
        if ends(OpenFlow(b"", value, midstream=False).key, 1).client_port == 40_002:
            raise IndexError("a mistake in the record")
        return flow_of(value)

    def bad_finish(connection: Connection) -> list[Observation]:
        if ends(connection.key, 1).client_port == 40_003:
            raise KeyError("a mistake in the reader")
        return finish(connection)

    def no_attempts(*_: object) -> Iterator[tuple[bytes, int, int]]:
        raise OSError("a mistake in the scans")

    monkeypatch.setattr(sweeping, "flow_record", bad_record)
    monkeypatch.setattr(Connection, "finish", bad_finish)
    monkeypatch.setattr(HalfOpenTable, "unanswered", no_attempts)
    events = lab.frames(in_time(*talks, touches), [DECKY])
    ports = {event["src_port"] for event in of(events, "tcp_flow_timing")}
    assert ports == {40_000, 40_001, 40_003, 40_004, 50_000}
    assert lab.last is not None
    assert len(lab.last.pipeline.connections) == lab.last.pipeline.connections.held == 0
    assert lab.containment.counts == {"failures_end": 2, "failures_due": 1}
    assert len(survived) == 3


@pytest.mark.interpreted
def test_a_step_that_fails_ends_no_replay(
    lab: ReplayLab, survived: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> float:
        raise ZeroDivisionError("made by the test")

    monkeypatch.setattr(Pipeline, "sweep", fails)
    monkeypatch.setattr(Pipeline, "emit_due", fails)
    monkeypatch.setattr(Pipeline, "_handshake", fails)
    events = lab.frames(in_time(talk(), later(2), later(4)), [DECKY])
    assert len(of(events, "tcp_flow_timing")) == 1
    assert of(events, "tcp_handshake") == []
    counts = lab.containment.counts
    assert counts["samples_failed"] == 1
    assert counts["failures_sweep"] == counts["failures_due"] > 1
    assert lab.last is not None
    assert lab.last.stats.sums().items() >= counts.items()
    assert lab.last.stats.losses(lab.last.tables.counters()).items() >= counts.items()
    assert len(survived) == 3


# --- connect scans ---


def scan(open_port: int, closed: list[int]) -> list[Conversation]:
    """The packets of nmap -sT at a decky: one port is open, the others are refused."""
    return [
        Conversation(server_port=open_port, client_port=41_000).open().reset(),
        *(
            Conversation(server_port=port, client_port=42_000 + port).syn().add(1, "RA", 0, 1)
            for port in closed
        ),
    ]


def test_a_connect_scan_is_named_at_the_end_of_the_capture_too(lab: ReplayLab) -> None:
    events = lab.frames(in_time(*scan(443, [22, 80])), [DECKY])
    flow = one(events, "tcp_flow_timing")
    assert (flow["tool"], flow["close"], flow["packets"]) == ("nmap", "rst", 4)
    assert str(flow["tool_evidence"]).endswith("services answered 1; unanswered 2")


def test_it_is_named_as_soon_as_what_came_next_was_seen(lab: ReplayLab) -> None:
    later = talk(client_port=43_000, start_ns=START_NS + 10 * SECOND)
    events = lab.frames(in_time(*scan(443, [22, 80]), later), [DECKY])
    flows = of(events, "tcp_flow_timing")
    assert [flow.get("tool") for flow in flows] == ["nmap", None]
    assert names(events).index("tcp_flow_timing") < names(events).index("tls_client_hello")


def test_one_reset_and_one_refusal_are_no_scan(lab: ReplayLab) -> None:
    flow = one(lab.frames(in_time(*scan(443, [22])), [DECKY]), "tcp_flow_timing")
    assert "tool" not in flow
