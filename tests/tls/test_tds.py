"""TLS in packets of TDS."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.tls.tds import HEADER_BYTES, TdsPackets, tds_payload


def header(payload: int, kind: int = 0x12) -> bytes:
    return bytes([kind, 1]) + (payload + HEADER_BYTES).to_bytes(2, "big") + bytes(4)


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (header(200), 200),
        (header(9, 0x04), 9),
        (header(9, 0x11), None),
        (header(0), None),
        (header(9)[:7], None),
        (b"\x12\x03" + header(9)[2:], None),
        (header(9)[:7] + b"\x01", None),
    ],
)
def test_headers(data: bytes, payload: int | None) -> None:
    assert tds_payload(data) == payload


@given(
    st.lists(st.binary(min_size=1, max_size=40), min_size=1),
    st.sampled_from([b"", b"\x17\x03\x03 records without packets"]),
    st.lists(st.integers(0, 400)),
)
def test_headers_are_taken_out_however_the_bytes_are_cut(
    payloads: list[bytes], tail: bytes, cuts: list[int]
) -> None:
    stream = b"".join(header(len(each)) + each for each in payloads)[HEADER_BYTES:] + tail
    packets = TdsPackets(len(payloads[0]))
    ends = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    found = b"".join(packets.unwrap(stream[start:end]) for start, end in pairwise(ends))
    assert found == b"".join(payloads) + tail


@given(st.integers(1, 50), st.lists(st.binary(max_size=30)))
def test_any_bytes_pass(left: int, pieces: list[bytes]) -> None:
    packets = TdsPackets(left)
    assert sum(len(packets.unwrap(piece)) for piece in pieces) <= sum(map(len, pieces))
