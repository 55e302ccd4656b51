"""Decoding of ring records and map values. What the kernel cannot have sent is rejected."""

from __future__ import annotations

from contextlib import suppress
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.abi import structs as abi
from deckwire.abi.samples import (
    AnomalySample,
    EndSample,
    HandshakeSample,
    MalformedSample,
    SackSample,
    SegmentSample,
    SynSample,
    decode,
    flow_handshake,
    flow_record,
)
from deckwire.tcp.anomaly import KERNEL_TECHNIQUES, Anomaly, Technique

KEY = bytes(range(36))
ABSENT = bytes(abi.SYN_PACKET_BYTES)
ISN = bytes(8)
"""Of both ends, behind the totals in a sample of an end."""
REST = bytes(abi.FLOW_BYTES - abi.FLOW_TOTALS_BYTES)


def build(struct: str, **members: Any) -> bytes:
    """A struct of bpf/abi.h by its name; members that are not given are zero."""
    schema = abi.SCHEMAS[struct]
    zero = schema.parse(bytes(schema.sizeof()))
    for name, value in members.items():
        assert name in zero, name
        zero[name] = value
    data: bytes = schema.build(zero)
    return data


def head(kind: int, **members: Any) -> bytes:
    return build("sample_head", kind=kind, time_ns=50, born_ns=40, key=KEY, **members)


def syn_packet(**members: Any) -> Any:
    """A struct syn_packet, to stand in another."""
    return abi.SCHEMAS["syn_packet"].parse(build("syn_packet", **{"ip_version": 4, **members}))


def side(**members: Any) -> Any:
    return abi.SCHEMAS["flow_side"].parse(build("flow_side", **members))


TOTALS: dict[str, Any] = {
    "born_ns": 40,
    "last_ns": 90,
    "min_iat_ns": 1,
    "max_iat_ns": 9,
    "rtt_server_us": 3,
    "rtt_client_us": abi.RTT_UNKNOWN,
    "rtt_min_us": 2,
    "client": 1,
    "close": 2,
    "flags": abi.FLOW_MIDSTREAM,
    "end_sent": 1,
    "rules": bytes([0x3F, 0xFF]),
    "established_ns": 60,
    "side": [
        side(packets=2**40, bytes=2**50, retransmits=7),
        side(packets=1, bytes=2, retransmits=3),
    ],
}


def test_a_segment() -> None:
    flags = abi.SAMPLE_TLS_STARTS | abi.SAMPLE_FLOW_MIDSTREAM
    data = head(
        abi.SAMPLE_SEGMENT,
        seq=2**32 - 1,
        start_seq=7,
        payload_len=99,
        payload_off=14 + 52,
        copied=4,
        sender=1,
        client=abi.CLIENT_UNKNOWN,
        flags=flags,
    )
    assert decode(data + bytes(66) + b"dataPADDING") == SegmentSample(
        time_ns=50,
        born_ns=40,
        key=KEY,
        sender=1,
        client=abi.CLIENT_UNKNOWN,
        midstream=True,
        seq=2**32 - 1,
        start_seq=7,
        payload=b"data",
        claimed=99,
        ends=False,
        proven=False,
        headers=52,
    )
    proven = decode(
        head(abi.SAMPLE_SEGMENT, flags=abi.SAMPLE_FLOW_MIDSTREAM | abi.SAMPLE_FLOW_PROVEN)
    )
    assert isinstance(proven, SegmentSample)
    assert (proven.midstream, proven.proven) == (True, True)


def test_start_and_end_count_only_if_the_flags_say_so() -> None:
    plain = decode(head(abi.SAMPLE_SEGMENT, start_seq=7))
    assert isinstance(plain, SegmentSample)
    assert (plain.start_seq, plain.midstream, plain.ends) == (None, False, False)
    ending = decode(head(abi.SAMPLE_SEGMENT, flags=abi.SAMPLE_TLS_ENDS))
    assert isinstance(ending, SegmentSample)
    assert ending.ends


def test_an_anomaly() -> None:
    inner = abi.SCHEMAS["sample_head"].parse(
        head(abi.SAMPLE_ANOMALY, seq=5, payload_len=7, sender=1)
    )
    members = {"head": inner, "signature": 2**63 + 1, "ack": 6, "tcp_flags": 0x18, "technique": 4}
    data = build("anomaly_sample", **members)
    sample = decode(data + b"PADDING")
    assert sample == AnomalySample(
        50,
        40,
        KEY,
        1,
        0,
        2**63 + 1,
        Anomaly(Technique.REFUSED_RST, "flags PA seq 5 ack 6 bytes 7"),
    )
    known = decode(build("anomaly_sample", **members, known=1, expected_seq=8, expected_ack=9))
    assert isinstance(known, AnomalySample)
    assert known.anomaly.evidence.endswith(", expected seq 8 ack 9")
    for code in (0, len(KERNEL_TECHNIQUES), 255):
        with pytest.raises(MalformedSample, match="technique_unknown"):
            decode(build("anomaly_sample", **{**members, "technique": code}))
    with pytest.raises(MalformedSample, match="anomaly_short"):
        decode(data[:-1])


@pytest.mark.parametrize(
    ("flags", "urgent", "urgent_seq"),
    [(0x10, 5, None), (0x38, 0, 7), (0x38, 1, 7), (0x38, 5, 11), (0x20, 0xFFFF, 7 + 0xFFFE)],
)
def test_the_urgent_byte_counts_only_with_its_flag(
    flags: int, urgent: int, urgent_seq: int | None
) -> None:
    sample = decode(head(abi.SAMPLE_SEGMENT, seq=7, tcp_flags=flags, urgent=urgent))
    assert isinstance(sample, SegmentSample)
    assert sample.urgent_seq == urgent_seq


def test_the_urgent_byte_wraps() -> None:
    sample = decode(head(abi.SAMPLE_SEGMENT, seq=2**32 - 1, tcp_flags=0x20, urgent=3))
    assert isinstance(sample, SegmentSample)
    assert sample.urgent_seq == 1


def totals_of(acked: int, sent: int, side_flags: int = 0, **members: Any) -> bytes:
    """Totals of which end 1 has acknowledged end 0; `sent` are the bytes of end 0."""
    ends = [
        abi.SCHEMAS["flow_end"].parse(build("flow_end", acked=value & 0xFFFF_FFFF))
        for value in (0, acked)
    ]
    sides = [side(packets=1, bytes=sent, flags=side_flags), side(flags=abi.SIDE_ACKED)]
    return build("flow_totals", end=ends, side=sides, **members)


@pytest.mark.parametrize(
    ("acked", "sent", "fin", "accepted"),
    [
        pytest.param(101, 100, False, 100, id="all"),
        pytest.param(102, 100, True, 100, id="all, and a FIN"),
        pytest.param(101, 300, False, 100, id="fewer than were sent"),
        pytest.param(301, 100, False, 300, id="more than were seen"),
        pytest.param(1, 0, False, 0, id="nothing"),
        pytest.param(0, 0, False, 0, id="not even the SYN"),
        pytest.param(101, 3 * 2**32 + 100, False, 3 * 2**32 + 100, id="after three wraps"),
        pytest.param(1, 2**32, False, 2**32, id="to the byte of a wrap"),
        pytest.param(0xFFFF_FFFF, 2**32 + 10, False, 2**32 - 2, id="a little before"),
    ],
)
def test_bytes_that_the_other_end_acknowledged(
    acked: int, sent: int, fin: bool, accepted: int
) -> None:
    isn = 0x8000_0000
    totals = totals_of(isn + acked, sent, abi.SIDE_FIN_ACKED if fin else 0)
    sample = decode(head(abi.SAMPLE_END) + totals + pack("<II", isn, 7))
    assert isinstance(sample, EndSample)
    assert [one.accepted for one in sample.record.sides] == [accepted, None]


def test_accepted_bytes_of_an_entry_are_counted_from_its_syns() -> None:
    isn = 0xFFFF_FFF0
    value = totals_of(isn + 101, 100, client=0)
    opened = value + build("syn_packet", ip_version=4, seq=isn) + build("syn_packet", ip_version=4)
    assert flow_record(opened + bytes(56)).sides[0].accepted == 100
    unseen = value + ABSENT + build("syn_packet", ip_version=4, ack=(isn + 1) & 0xFFFF_FFFF)
    assert flow_record(unseen + bytes(56)).sides[0].accepted == 100
    answered = totals_of(isn + 101, 100, client=1)
    answered += build("syn_packet", ip_version=4) + build("syn_packet", ip_version=4, seq=isn)
    assert flow_record(answered + bytes(56)).sides[0].accepted == 100


@pytest.mark.parametrize(
    ("first", "second", "close"),
    [
        (abi.SIDE_FIN | abi.SIDE_FIN_ACKED, abi.SIDE_FIN, "fin"),
        (abi.SIDE_FIN, abi.SIDE_FIN | abi.SIDE_FIN_ACKED, "fin"),
        (abi.SIDE_FIN, abi.SIDE_FIN, ""),
        (abi.SIDE_FIN | abi.SIDE_FIN_ACKED, 0, ""),
    ],
)
def test_only_the_last_ack_of_a_fin_is_missing(first: int, second: int, close: str) -> None:
    sides = [side(flags=first), side(flags=second)]
    sample = decode(head(abi.SAMPLE_END) + build("flow_totals", side=sides) + ISN)
    assert isinstance(sample, EndSample)
    assert sample.record.close == close


def test_what_a_midstream_end_accepted_is_unknown() -> None:
    totals = totals_of(500, 100, flags=abi.FLOW_MIDSTREAM)
    sample = decode(head(abi.SAMPLE_END) + totals + ISN)
    assert isinstance(sample, EndSample)
    assert [one.accepted for one in sample.record.sides] == [None, None]


def test_a_client_that_cannot_be_is_unknown() -> None:
    sample = decode(head(abi.SAMPLE_SEGMENT, client=200, sender=3))
    assert isinstance(sample, SegmentSample)
    assert (sample.client, sample.sender) == (abi.CLIENT_UNKNOWN, 1)


def test_a_syn() -> None:
    syn = syn_packet(
        time_ns=40,
        seq=5,
        ack=6,
        flow_label=0xFFFFF,
        payload_len=9,
        window=65_535,
        ip_id=54_321,
        urgent=1,
        flags=0xFFF,
        ip_options_len=8,
        ttl=255,
        tos=0xB8,
        ip_flags=abi.IP_FLAG_DF,
        options_len=4,
        options=b"\2\4\5\xb4".ljust(40, b"\xee"),
    )
    body = build("half_open", signature=2**63, syn=syn, client=1, syn_sampled=1)
    sample = decode(head(abi.SAMPLE_SYN) + body)
    assert isinstance(sample, SynSample)
    assert (sample.client, sample.signature, sample.key) == (1, 2**63, KEY)
    seen = sample.syn
    assert (seen.time_ns, seen.seq, seen.ack, seen.flow_label) == (40, 5, 6, 0xFFFFF)
    assert (seen.window, seen.ip_id, seen.urgent, seen.flags) == (65_535, 54_321, 1, 0xFFF)
    assert (seen.ttl, seen.tos, seen.ip_options_len, seen.payload_len) == (255, 0xB8, 8, 9)
    assert (seen.df, seen.ip_reserved, seen.options) == (True, False, b"\2\4\5\xb4")


def test_a_handshake() -> None:
    body = build(
        "half_open",
        syn=syn_packet(time_ns=10_000, retransmits=2),
        synack=syn_packet(time_ns=30_000, ip_version=6, ip_flags=abi.IP_FLAG_RESERVED),
        syn_sampled=1,
    )
    sample = decode(head(abi.SAMPLE_HANDSHAKE) + body)
    assert isinstance(sample, HandshakeSample)
    assert sample.syn_sampled
    handshake = sample.handshake
    assert (handshake.syn_retransmits, handshake.synack_retransmits) == (2, 0)
    assert handshake.established_ns == sample.time_ns == 50
    assert handshake.rtt_server_us == 20
    assert handshake.synack is not None
    assert (handshake.synack.ip_version, handshake.synack.ip_reserved) == (6, True)


def test_packets_that_were_not_seen_are_none() -> None:
    sample = decode(head(abi.SAMPLE_HANDSHAKE) + build("half_open", synack=syn_packet()))
    assert isinstance(sample, HandshakeSample)
    assert sample.handshake.syn is None
    assert sample.handshake.synack is not None


def test_an_end() -> None:
    sample = decode(head(abi.SAMPLE_END) + build("flow_totals", **TOTALS) + ISN + b"\0" * 4)
    assert isinstance(sample, EndSample)
    record = sample.record
    assert (record.born_ns, record.last_ns) == (40, 90)
    assert (record.min_iat_ns, record.max_iat_ns) == (1, 9)
    assert (record.close, record.midstream, record.end_sent, record.client) == (
        "rst",
        True,
        True,
        1,
    )
    assert (record.isn, record.resumed) == (None, (1, 7))
    assert record.sides == ((2**40, 2**50, 7, None, 0), (1, 2, 3, None, 0))
    assert (record.rtt_client_us, record.rtt_server_us, record.rtt_min_us) == (None, 3, 2)


def test_an_entry_of_the_flows_table() -> None:
    value = build("flow_totals", **TOTALS)
    value += build("syn_packet", ip_version=4, seq=1, retransmits=3) + ABSENT
    value += bytes(abi.FLOW_BYTES - len(value))
    ended = decode(head(abi.SAMPLE_END) + value[: abi.FLOW_TOTALS_BYTES] + ISN)
    assert isinstance(ended, EndSample)
    assert flow_record(value) == ended.record
    handshake = flow_handshake(value)
    assert handshake.syn is not None
    assert (handshake.syn.seq, handshake.syn_retransmits) == (1, 3)
    assert (handshake.synack, handshake.established_ns) == (None, 60)
    begun_before = (build("flow_totals") + ABSENT + ABSENT).ljust(abi.FLOW_BYTES, b"\0")
    assert flow_handshake(begun_before).established_ns is None


def test_closes_of_the_kernel_have_names_and_others_none() -> None:
    names = [flow_record(build("flow_totals", close=close) + REST).close for close in range(8)]
    assert names == ["", "fin", "rst", "idle", "evicted", "removed", "shutdown", ""]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "head_short"),
        (head(abi.SAMPLE_SEGMENT)[:-1], "head_short"),
        (head(0), "kind_unknown"),
        (head(9), "kind_unknown"),
        (head(abi.SAMPLE_SEGMENT, copied=5, payload_off=2) + b"sixsix", "segment_short"),
        (head(abi.SAMPLE_SYN) + bytes(abi.HALF_OPEN_BYTES - 1), "half_open_short"),
        (head(abi.SAMPLE_HANDSHAKE), "half_open_short"),
        (head(abi.SAMPLE_SYN) + bytes(abi.HALF_OPEN_BYTES), "syn_missing"),
        (
            head(abi.SAMPLE_SYN) + build("half_open", syn=syn_packet(ip_version=5)),
            "syn_packet_malformed",
        ),
        (head(abi.SAMPLE_END) + bytes(abi.FLOW_TOTALS_BYTES + 7), "end_short"),
    ],
)
def test_malformed_samples(data: bytes, cause: str) -> None:
    with pytest.raises(MalformedSample, match=f"^{cause}$"):
        decode(data)


def test_short_values_of_maps() -> None:
    with pytest.raises(MalformedSample, match="flow_short"):
        flow_handshake(bytes(abi.FLOW_BYTES - 1))
    with pytest.raises(MalformedSample, match="flow_short"):
        flow_record(bytes(abi.FLOW_BYTES - 1))


@given(kind=st.integers(0, 8), rest=st.binary(max_size=700))
def test_no_bytes_raise_anything_else(kind: int, rest: bytes) -> None:
    data = head(kind, payload_off=len(rest) % 7, copied=len(rest) % 90) + rest
    with suppress(MalformedSample):
        decode(data)


def test_an_ack_with_sack_blocks() -> None:
    options = b"\x01\x01\x05\x0a" + (20).to_bytes(4, "big") + (30).to_bytes(4, "big")
    frame = bytes(54) + options
    members = {"seq": 7, "start_seq": 54, "payload_off": len(frame), "sender": 1}
    data = head(abi.SAMPLE_SACK, **members) + frame
    assert decode(data) == SackSample(50, 40, KEY, 1, 7, ((20, 30),))
    with pytest.raises(MalformedSample):
        decode(data[:-1])
    beyond = head(abi.SAMPLE_SACK, **{**members, "start_seq": 2**31})
    assert decode(beyond + frame) == SackSample(50, 40, KEY, 1, 7, ())
