"""Faults of the sniffer that Deckwire replaces: one test for each, through the real programs.

The tests of these faults are with the modules that handle them:

========================================  =========================================================
it did                                    test
========================================  =========================================================
first FIN or any RST ended the flow       pipeline: one_fin_does_not_end_it,
                                          a_reset_outside_the_window_does_not,
                                          late_segments_make_no_ghost,
                                          a_new_handshake_on_the_same_4_tuple_...
retransmits by identical start            pipeline: retransmits_count_on_both_sides_...
outbound connections reported reversed    pipeline: who_opened_it_is_the_source_of_every_event
issuer not escaped, SANs dropped,         certificate: values_are_escaped_in_names_...,
self_signed by CN equality                same_common_name_is_not_the_same_name
control characters went into the line     events/hello, events/certificate: hostile_names_...
one failed write ended it                 sinks/sink: a_failed_line_comes_again_...,
                                          a_receiver_gone_for_good_ends_the_sink
unbounded tables                          connections, dedup, reassembly;
                                          pipeline: a_crowded_table_evicts_...
time taken after a backlog                pipeline: times_are_those_of_the_packets_...
JA4 as FoxIO defines it                   corpus/corpus, fingerprints/ja4
========================================  =========================================================

Files and functions are written without their `test_`.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import replace
from struct import pack

import pytest

from deckwire.captures import Frame
from deckwire.ip.fragment import checksum
from tests.support import bpf_frames as wire
from tests.support.conversation import CLIENT, CLIENT6, DECKY, DECKY6, START_NS, Conversation
from tests.support.emitted import names, of, one
from tests.support.flights import (
    client_hello,
    handshake,
    message,
    record,
    server_hello,
    u16,
    vector,
)
from tests.support.replaying import SETTINGS, ReplayLab

pytestmark = pytest.mark.root

TLS12 = handshake(ssl.TLSVersion.TLSv1_2)
TLS13 = handshake(ssl.TLSVersion.TLSv1_3)
HELLO = TLS12.client[: 5 + int.from_bytes(TLS12.client[3:5], "big")]


def opened() -> Conversation:
    return Conversation().open()


def whole(flight: tuple[bytes, bytes], size: int = 1_400) -> list[Frame]:
    client, server = flight
    return opened().send(client, size).answer(server, size).close().frames


def hello_fields(lab: ReplayLab, hello: bytes) -> dict[str, object]:
    return one(lab.frames(opened().send(hello).frames, [DECKY]), "tls_client_hello")


# --- lost a ClientHello that spans segments or records, or follows another record ---


def test_hello_over_segments(lab: ReplayLab) -> None:
    body = client_hello((51, vector(2, u16(0x11EC) + vector(2, bytes(1_184)))))
    hello = record(message(1, body))
    for size in (1_400, 700, 5, 1):
        conversation = opened().send(hello, size)
        fields = one(lab.frames(conversation.frames, [DECKY]), "tls_client_hello")
        assert (fields["raw_extensions"], fields["ja4"]) == ("51", hello_fields(lab, hello)["ja4"])


def test_hello_reordered_duplicated_and_overlapping(lab: ReplayLab) -> None:
    pieces = [(at, HELLO[at : at + 70]) for at in range(0, len(HELLO), 50)]
    for order in (pieces[::-1], pieces[1::2] + pieces[::2], pieces + pieces):
        conversation = opened()
        for at, data in order:
            conversation.add(0, "PA", 1 + at, 1, data)
        fields = one(lab.frames(conversation.frames, [DECKY]), "tls_client_hello")
        assert fields["ja3"] == hello_fields(lab, HELLO)["ja3"]


def test_hello_over_records(lab: ReplayLab) -> None:
    content = HELLO[5:]
    split = b"".join(record(content[at : at + 40]) for at in range(0, len(content), 40))
    assert hello_fields(lab, split)["ja4"] == hello_fields(lab, HELLO)["ja4"]
    assert hello_fields(lab, split)["quality"] == "reassembled"


def test_hello_behind_another_record(lab: ReplayLab) -> None:
    alert = record(b"\x01\x00", kind=21)
    assert hello_fields(lab, alert + HELLO)["ja4"] == hello_fields(lab, HELLO)["ja4"]


# --- lost the server's certificate when it shared or spanned segments; and its sni ---


@pytest.mark.parametrize("size", [60_000, 1_400, 100, 9])
def test_certificate_however_its_flight_is_cut(lab: ReplayLab, size: int) -> None:
    certificate = one(lab.frames(whole(TLS12, size), [DECKY]), "tls_certificate")
    assert certificate["subject_cn"] == "decoy.example"
    assert certificate["sni"] == "decoy.example"


def test_certificate_in_one_record_with_its_server_hello(lab: ReplayLab) -> None:
    plain = b""
    at = 0
    while TLS12.server[at] == 22 and len(plain) < 5_000:
        end = at + 5 + int.from_bytes(TLS12.server[at + 3 : at + 5], "big")
        plain += TLS12.server[at + 5 : end]
        at = end
        if plain.endswith(message(14, b"")):
            break
    events = lab.frames(opened().send(HELLO).answer(record(plain)).frames, [DECKY])
    assert names(events)[2:5] == ["tls_client_hello", "tls_session", "tls_certificate"]


# --- the old values of ja4 and ja4s, for who stored them ---


def test_compat_changes_ja4_and_ja4s_and_nothing_else(lab: ReplayLab) -> None:
    now = lab.frames(whole(TLS13), [DECKY])
    old = lab.frames(whole(TLS13), [DECKY], replace(SETTINGS, compat="decnet"))
    changed = {
        name
        for before, after in zip(now, old, strict=True)
        for (name, value), (_, other) in zip(before.fields, after.fields, strict=True)
        if value != other
    }
    assert changed == {"ja4", "ja4s"}
    hello, session = one(old, "tls_client_hello"), one(old, "tls_session")
    assert re.fullmatch(r"t13d\d{4}h2_[0-9a-f]{12}_[0-9a-f]{12}", hello["ja4"])
    assert re.fullmatch(r"t1302(00)_[0-9a-f]{12}", session["ja4s"])


# --- latency never present, and only half of it ---


def test_latency_is_there_whenever_the_handshake_was_seen(lab: ReplayLab) -> None:
    conversation = Conversation(step_ns=0, client_ttl=52, server_ttl=63)
    conversation.syn().wait(0.000_8).synack().wait(0.0416).ack()
    conversation.send(TLS12.client).answer(TLS12.server).close()
    events = lab.frames(conversation.frames, [DECKY])
    for name in ("tls_client_hello", "tls_session"):
        fields = one(events, name)
        assert (str(fields["ja4l_rtt_ms"]), fields["ja4l_client_ttl"]) == ("0.8", 52)
        assert (fields["ja4l_c"], fields["ja4l_s"]) == ("20800_52", "400_63")
    for name in ("tls_client_hello", "tcp_flow_timing", "tcp_handshake"):
        fields = one(events, name)
        assert (fields["rtt_client_us"], fields["rtt_server_us"]) == (41_600, 800)


def test_latency_is_left_out_where_the_handshake_was_not_seen(lab: ReplayLab) -> None:
    conversation = Conversation().send(TLS12.client).answer(TLS12.server).close()
    for event in lab.frames(conversation.frames, [DECKY]):
        assert not any("rtt" in name or "ja4l" in name for name, _ in event.fields)


# --- versions and resumption ---


@pytest.mark.parametrize(("flight", "version"), [(TLS12, "TLS 1.2"), (TLS13, "TLS 1.3")])
def test_version_is_the_one_offered_and_chosen(
    lab: ReplayLab, flight: tuple[bytes, bytes], version: str
) -> None:
    events = lab.frames(whole(flight), [DECKY])
    assert one(events, "tls_client_hello")["tls_version"] == version
    assert one(events, "tls_session")["tls_version"] == version


def test_the_version_offered_may_be_higher_than_the_one_chosen(lab: ReplayLab) -> None:
    events = lab.frames(whole((TLS13.client, TLS12.server)), [DECKY])
    assert one(events, "tls_client_hello")["tls_version"] == "TLS 1.3"
    assert one(events, "tls_session")["tls_version"] == "TLS 1.2"


def test_a_compatibility_session_id_is_no_resumption(lab: ReplayLab) -> None:
    events = lab.frames(whole(TLS13), [DECKY])
    assert "resumption" not in one(events, "tls_client_hello")
    body = client_hello((43, vector(1, u16(0x0304))), (41, b""), session_id=bytes(32))
    assert hello_fields(lab, record(message(1, body)))["resumption"] == ("psk",)
    resumed = handshake(ssl.TLSVersion.TLSv1_2, resumed=True)
    hello = one(lab.frames(whole(resumed), [DECKY]), "tls_client_hello")
    assert hello["resumption"] == ("session_ticket", "session_id")


def test_hello_retry_request_is_one_hello_one_session_one_connection(lab: ReplayLab) -> None:
    flight = handshake(ssl.TLSVersion.TLSv1_3, retry=True)
    first = 5 + int.from_bytes(flight.client[3:5], "big")
    answer = 5 + int.from_bytes(flight.server[3:5], "big")
    conversation = opened().send(flight.client[:first]).answer(flight.server[:answer])
    conversation.send(flight.client[first:]).answer(flight.server[answer:]).close()
    events = lab.frames(conversation.frames, [DECKY])
    assert names(events)[2:] == ["tls_client_hello", "tls_session", "tcp_flow_timing"]
    assert one(events, "tls_session")["hrr"] is True


# --- what was taken for what it is not ---


def test_padding_is_not_payload(lab: ReplayLab) -> None:
    conversation = opened().close()
    padded = [
        replace(frame, data=frame.data.ljust(60, b"\x16"), wire_len=60)
        for frame in conversation.frames
    ]
    assert any(len(frame.data) < 60 for frame in conversation.frames)
    flow = one(lab.frames(padded, [DECKY]), "tcp_flow_timing")
    assert flow["bytes"] == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01\x00\x40\x02" + bytes(range(63)),
        record(message(2, b"\x03\x03" + bytes(70))),
        record(message(2, server_hello(version=0x0999))),
        record(b"\x02\x00\x10\x00" + server_hello()),
        b"\x02\x00\x00\x26" + server_hello(),
    ],
)
def test_random_bytes_are_no_server_hello(lab: ReplayLab, answer: bytes) -> None:
    events = lab.frames(opened().send(HELLO).answer(answer).close().frames, [DECKY])
    assert of(events, "tls_session") == []


def test_an_attackers_flight_is_not_the_deckys(lab: ReplayLab) -> None:
    """The client sends a ServerHello and a certificate; the decky says nothing."""
    events = lab.frames(opened().send(TLS12.server).close().frames, [DECKY])
    assert of(events, "tls_session") == []
    assert [fields["side"] for fields in of(events, "tls_certificate")] == ["client"]


def test_client_certificates_are_told_as_the_clients(lab: ReplayLab) -> None:
    flight = handshake(ssl.TLSVersion.TLSv1_2, mutual=True)
    conversation = opened().send(HELLO).answer(flight.server).send(flight.client[len(HELLO) :])
    events = lab.frames(conversation.close().frames, [DECKY])
    assert [fields["side"] for fields in of(events, "tls_certificate")] == ["server", "client"]


# --- IPv4 only, no fragments ---


def test_ipv6_with_extension_headers_is_told_like_ipv4(lab: ReplayLab) -> None:
    conversation = Conversation(CLIENT6, DECKY6).open()
    conversation.send(TLS12.client).answer(TLS12.server).close()
    plain = lab.frames(conversation.frames, [DECKY6])
    assert len(plain) == 6
    stuffed = []
    for frame in conversation.frames:
        ip, segment = frame.data[14:54], frame.data[54:]
        options = wire.extension(wire.HOPOPTS, wire.DSTOPTS, wire.extension(60, wire.TCP, segment))
        ip = ip[:4] + pack("!HB", len(options), wire.HOPOPTS) + ip[7:]
        data = frame.data[:14] + ip + options
        stuffed.append(replace(frame, data=data, wire_len=len(data)))
    emitted = lab.frames(stuffed, [DECKY6])
    assert names(emitted) == names(plain)
    for name in ("tls_client_hello", "tls_session", "tls_certificate", "tcp_flow_timing"):
        assert one(emitted, name) == one(plain, name)


@pytest.mark.parametrize("ends", [(CLIENT, DECKY), (CLIENT6, DECKY6)], ids=["v4", "v6"])
@pytest.mark.parametrize("order", [1, -1], ids=["in order", "reversed"])
def test_a_hello_in_fragments_is_told_like_a_whole_one(
    lab: ReplayLab, ends: tuple[str, str], order: int
) -> None:
    plain = Conversation(*ends).open().send(TLS12.client).answer(TLS12.server).close().frames
    whole = lab.frames(plain, [ends[1]])
    cut = [
        replace(frame, data=part, wire_len=len(part))
        for frame in plain
        for part in (in_fragments(frame.data)[::order] if len(frame.data) > 200 else [frame.data])
    ]
    emitted = lab.frames(cut, [ends[1]])
    assert names(emitted) == names(whole)
    fields, expected = one(emitted, "tls_client_hello"), one(whole, "tls_client_hello")
    assert fields.pop("fragments") >= 2
    assert fields == expected
    assert "fragments" not in one(emitted, "tcp_syn_fingerprint")
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert sums["frames"] == len(cut)
    assert sums["fragments_received"] == sums["fragments_reassembled"] > 0


def test_a_hello_that_lacks_a_fragment_is_never_guessed_at(lab: ReplayLab) -> None:
    frames = opened().send(TLS12.client).frames
    cut = [
        replace(frame, data=part, wire_len=len(part))
        for frame in frames
        for part in (in_fragments(frame.data)[:-1] if len(frame.data) > 200 else [frame.data])
    ]
    assert of(lab.frames(cut, [DECKY]), "tls_client_hello") == []


def in_fragments(frame: bytes, size: int = 64) -> list[bytes]:
    """The frame's TCP packet in IP fragments with right checksums."""
    if frame[12:14] == b"\x86\xdd":
        head, tcp = frame[14:54], frame[54:]
        return [
            frame[:14]
            + head[:4]
            + pack("!HB", 8 + len(tcp[at : at + size]), wire.FRAGMENT)
            + head[7:]
            + wire.fragment(wire.TCP, tcp[at : at + size], at // 8, at + size < len(tcp))
            for at in range(0, len(tcp), size)
        ]
    made, tcp = [], frame[34:]
    for at in range(0, len(tcp), size):
        part, more = tcp[at : at + size], at + size < len(tcp)
        head = frame[14:16] + pack("!H", 20 + len(part)) + frame[18:20]
        head += pack("!H", more << 13 | at // 8) + frame[22:24] + bytes(2) + frame[26:34]
        summed = pack("!H", checksum(head))
        made.append(frame[:14] + head[:10] + summed + head[12:] + part)
    return made


# --- SNI ---


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (vector(2, b"\0" + vector(2, b"a.example")), "a.example"),
        (vector(2, b"\1" + vector(2, b"other") + b"\0" + vector(2, b"a.example")), "a.example"),
        (vector(2, b"\1" + vector(2, b"other")), ""),
        (vector(2, b"\0" + vector(2, b"a.example\0")), "a.example\0"),
        (vector(2, b"\0" + vector(2, "b\u00fccher.example".encode())), "b\u00fccher.example"),
        (vector(2, b"\0" + vector(2, b"\xff\xfe")), "\udcff\udcfe"),
        (vector(2, b"\0" + vector(2, b"a.example") + b"\0"), ""),
    ],
)
def test_server_name_by_type_and_length(lab: ReplayLab, body: bytes, name: str) -> None:
    hello = hello_fields(lab, record(message(1, client_hello((0, body)))))
    assert hello["sni"] == name
    assert str(hello["ja4"])[3] == "d"


def test_a_connection_whose_sequence_numbers_wrap(lab: ReplayLab) -> None:
    conversation = Conversation(client_iss=2**32 - 100, server_iss=2**32 - 300).open()
    conversation.send(TLS12.client, 50).answer(TLS12.server, 100)
    conversation.add(0, "PA", 1, 1, HELLO[:50]).close()
    events = lab.frames(conversation.frames, [DECKY])
    assert one(events, "tls_certificate")["subject_cn"] == "decoy.example"
    flow = one(events, "tcp_flow_timing")
    assert (flow["retransmits"], flow["retransmits_server"], flow["close"]) == (1, 0, "fin")
    assert flow["src_ip"] == CLIENT
    assert events[0].time_ns == START_NS
