"""Super-packets are cut into the segments that the wire carried."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deckwire.captures import split_segments
from tests.support import bpf_frames as frames
from tests.support.bpf_frames import ethernet

MACS = b"\x02" * 12
FIN, SYN, RST, PSH, ACK, CWR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x80
SEQ = 0xFFFF_F000  # wraps around within the packet
MAX_LEN = 1_514


def tcp(payload: bytes, flags: int = ACK, options: bytes = b"") -> bytes:
    offset = (20 + len(options)) // 4 << 4
    header = struct.pack("!HHIIBBHHH", 40_000, 443, SEQ, 1, offset, flags, 500, 0xBEEF, 0)
    return header + options + payload


def ipv4(
    segment: bytes,
    *,
    total: int | None = None,
    options: bytes = b"",
    protocol: int = 6,
    fragment: int = 0,
) -> bytes:
    length = 20 + len(options) + len(segment) if total is None else total
    version = 0x40 | (20 + len(options)) // 4
    header = struct.pack("!BBHHHBBH", version, 0, length, 7, fragment, 64, protocol, 0xDEAD)
    return b"\x08\x00" + header + b"\x0a\0\0\1\x0a\0\0\2" + options + segment


def ipv6(rest: bytes, next_header: int = 6, length: int | None = None) -> bytes:
    payload = len(rest) if length is None else length
    header = struct.pack("!IHBB", 6 << 28, payload, next_header, 64)
    return b"\x86\xdd" + header + bytes(15) + b"\1" + bytes(15) + b"\2" + rest


@dataclass(frozen=True)
class Seen:
    """A segment, read back by an independent reader that does not check it."""

    seq: int
    flags: int
    claimed: int
    payload: bytes


def look(frame: bytes) -> Seen:
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    ip = at + 2
    if frame[at : at + 2] == b"\x08\x00":
        start = ip + (frame[ip] & 15) * 4
        end = ip + int.from_bytes(frame[ip + 2 : ip + 4], "big")
    else:
        kind, start = frame[ip + 6], ip + 40
        end = start + int.from_bytes(frame[ip + 4 : ip + 6], "big")
        while kind != 6:
            size = (frame[start + 1] + 2) * 4 if kind == 51 else (frame[start + 1] + 1) * 8
            kind, start = frame[start], start + size
    payload = start + (frame[start + 12] >> 4) * 4
    seq = int.from_bytes(frame[start + 4 : start + 8], "big")
    return Seen(seq, frame[start + 13], end - payload, frame[payload:])


def assert_is_cut_of(pieces: list[bytes], payload: bytes, claimed: int, max_len: int) -> None:
    """Assert that the pieces carry `payload` and claim `claimed` without gaps or overlaps."""
    assert all(len(piece) <= max_len for piece in pieces)
    seen = [look(piece) for piece in pieces]
    offset = 0
    for one in seen:
        assert one.seq == (SEQ + offset) & 0xFFFF_FFFF
        offset += one.claimed
    assert offset == claimed
    assert b"".join(one.payload for one in seen) == payload
    # A segment is shorter than it claims only if the capture was cut.
    assert all(len(one.payload) <= one.claimed for one in seen)


PAYLOAD = bytes(range(256)) * 80
TAGS = {"plain": b"", "vlan": b"\x81\x00\x00\x05", "qinq": b"\x88\xa8\x00\x05\x81\x00\x00\x06"}
EXTENSION = struct.pack("!BB6x", 6, 0)


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(frames.ipv4(frames.tcp(PAYLOAD, flags="PA"))),
        ethernet(frames.ipv6(frames.tcp(PAYLOAD, flags="PA"))),
        ethernet(frames.ipv4(frames.tcp(PAYLOAD[:-1], flags="PA", options=bytes(12)))),
    ],
    ids=["v4", "v6", "of odd length"],
)
def test_segments_have_checksums_of_their_own(frame: bytes) -> None:
    pieces = split_segments(frame, MAX_LEN)
    assert len(pieces) > 1
    assert [frames.summed(piece) for piece in pieces] == pieces


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS.keys())
@pytest.mark.parametrize(
    "packet",
    [
        ipv4(tcp(PAYLOAD)),
        ipv4(tcp(PAYLOAD, options=b"\x01" * 12), options=b"\x01" * 8),
        ipv4(tcp(PAYLOAD), total=0),
        ipv6(tcp(PAYLOAD)),
        ipv6(EXTENSION + tcp(PAYLOAD), 60),
        ipv6(struct.pack("!BB6x", 43, 0) + EXTENSION + tcp(PAYLOAD), 0),
        ipv6(struct.pack("!BB14x", 6, 2) + tcp(PAYLOAD), 51),
        ipv6(tcp(PAYLOAD), length=0),
    ],
    ids=["v4", "v4-options", "v4-big", "v6", "v6-dst", "v6-hop-routing", "v6-ah", "v6-big"],
)
def test_a_super_packet_is_cut_into_segments(packet: bytes, tags: bytes) -> None:
    frame = MACS + tags + packet
    pieces = split_segments(frame, MAX_LEN)
    assert_is_cut_of(pieces, PAYLOAD, len(PAYLOAD), MAX_LEN)
    assert len(pieces) == -(-len(PAYLOAD) // (MAX_LEN - (len(frame) - len(PAYLOAD))))
    assert all(len(piece) == MAX_LEN for piece in pieces[:-1])


def test_a_frame_that_fits_is_unchanged() -> None:
    frame = MACS + ipv4(tcp(b"x" * 100, PSH | ACK))
    assert split_segments(frame, len(frame)) == [frame]


def test_flags_are_in_the_segments_that_had_them_on_the_wire() -> None:
    frame = MACS + ipv4(tcp(PAYLOAD, FIN | PSH | ACK | CWR))
    first, *middle, last = [look(piece).flags for piece in split_segments(frame, MAX_LEN)]
    assert first == ACK | CWR
    assert set(middle) == {ACK}
    assert last == FIN | PSH | ACK


def test_a_syn_takes_a_sequence_number() -> None:
    frame = MACS + ipv4(tcp(PAYLOAD, SYN))
    first, second, *_ = [look(piece) for piece in split_segments(frame, MAX_LEN)]
    assert (first.seq, first.flags) == (SEQ, SYN)
    assert (second.seq, second.flags) == (SEQ + 1 + first.claimed, 0)


def test_the_jumbo_payload_option_is_removed() -> None:
    big = PAYLOAD * 4
    jumbo = struct.pack("!BBBBI", 6, 0, 0xC2, 4, 8 + 20 + len(big))
    pieces = split_segments(MACS + ipv6(jumbo + tcp(big), 0, length=0), MAX_LEN)
    assert_is_cut_of(pieces, big, len(big), MAX_LEN)
    assert all(piece[20] == 6 for piece in pieces)


def test_a_jumbo_length_beyond_the_bound_is_rejected() -> None:
    jumbo = struct.pack("!BBBBI", 6, 0, 0xC2, 4, 2**32 - 1)
    frame = MACS + ipv6(jumbo + tcp(PAYLOAD), 0, length=0)
    assert split_segments(frame, MAX_LEN) == [frame[:MAX_LEN]]


@given(
    captured=st.integers(0, 20_000),
    claimed=st.integers(0, 60_000),
    max_len=st.integers(200, 3_500),
    v6=st.booleans(),
)
def test_claimed_lengths_add_up_if_the_capture_was_cut(
    captured: int, claimed: int, max_len: int, v6: bool
) -> None:
    payload = b"p" * captured
    packet = (
        ipv6(tcp(payload), length=20 + claimed) if v6 else ipv4(tcp(payload), total=40 + claimed)
    )
    frame = MACS + packet
    pieces = split_segments(frame, max_len)
    if len(frame) <= max_len:
        assert pieces == [frame]
    else:
        # Bytes after the IP packet (padding, an FCS) are left out.
        assert_is_cut_of(pieces, payload[:claimed], claimed, max_len)


LONG = b"x" * 4_000


@pytest.mark.parametrize(
    "packet",
    [
        b"\x08\x06" + LONG,
        ipv4(LONG, protocol=17),
        ipv4(tcp(LONG), fragment=0x2000),
        ipv4(tcp(LONG), fragment=0x0010),
        ipv4(tcp(LONG), total=30),
        b"\x08\x00\x65" + LONG,
        b"\x08\x00\x41" + LONG,
        ipv4(tcp(LONG)[:12] + b"\x40" + LONG),
        ipv6(LONG, 17),
        ipv6(struct.pack("!BB6x", 6, 0) + tcp(LONG), 44),
        ipv6(struct.pack("!BB6x", 0, 0) * 100 + LONG, 0),
        b"\x86\xdd\x45" + LONG,
        b"\x81\x00\x00\x01" * 1_000,
        b"\x81\x00\x00\x01" * 300 + ipv4(tcp(LONG)),
    ],
)
def test_a_frame_that_cannot_be_cut_becomes_a_prefix(packet: bytes) -> None:
    frame = MACS + packet
    assert split_segments(frame, MAX_LEN) == [frame[:MAX_LEN]]


@given(
    start=st.sampled_from([b"", b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00\0\0\x08\x00\x45"]),
    data=st.binary(max_size=400),
    max_len=st.integers(1, 300),
)
@settings(max_examples=300)
def test_any_bytes_give_bounded_pieces(start: bytes, data: bytes, max_len: int) -> None:
    pieces = split_segments(MACS + start + data, max_len)
    assert pieces
    assert all(len(piece) <= max_len for piece in pieces)
