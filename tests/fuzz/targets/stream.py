"""tcp.reassembly.Stream: in any order of segments, the bytes read are the bytes sent."""

from __future__ import annotations

from itertools import pairwise

from deckwire.limits import STREAM_BYTES, STREAM_CUTS, STREAM_PIECES
from deckwire.tcp.reassembly import Stream
from tests.fuzz.feed import Feed

_SENT = bytes((n * 7 + n // 251) & 0xFF for n in range(STREAM_BYTES * 2))
"""The bytes of an honest sender, without a period shorter than a segment."""
_READ, _LIE, _CUT, _LONG = 0x80, 0x40, 0x20, 0x10
_SEGMENTS = 64
_FOLLOWED = 2_048
"""The target tracks the bytes that have arrived up to this offset."""


def seeds() -> list[bytes]:
    in_order = bytes(4) + b"".join(
        bytes([0]) + (n * 100).to_bytes(3, "big") + (100).to_bytes(2, "big") for n in range(5)
    )
    backwards = b"\xff\xff\xff\xf0" + b"".join(
        bytes([_READ]) + (n * 9).to_bytes(3, "big") + (30).to_bytes(2, "big") for n in (4, 3, 2, 0)
    )
    lying = bytes(4) + bytes([_LIE | _CUT]) + bytes(3) + b"\x01\0" + bytes(7) + b"\x02\0"
    far = bytes(4) + bytes([_LONG]) + b"\0\xff\xf0" + b"\xff\xff" + bytes(6)
    return [in_order, backwards, lying, far]


def check(data: bytes) -> None:
    feed = Feed(data)
    first_seq = feed.number(4)
    stream = Stream(first_seq)
    honest = True
    covered: int | None = 0  # bit n stands for offset n
    got = b""
    for _ in range(_SEGMENTS):
        if not feed:
            break
        how, offset, size = feed.number(1), feed.number(3) % (STREAM_BYTES + 999), feed.number(2)
        if not how & _LONG:
            size &= 0x1FF
        payload = _SENT[offset : offset + size]
        if how & _LIE:
            honest = False
            payload = bytes(byte ^ 0x55 for byte in payload[:64])
        claimed = len(payload) + 10 if how & _CUT else None
        stream.add((first_seq + offset) & 0xFFFF_FFFF, payload, claimed)
        if covered is not None and offset + size <= _FOLLOWED:
            covered |= ((1 << size) - 1) << offset
        else:
            covered = None
        if how & _READ:
            got += stream.read()
    _check_bounds(stream)
    got += stream.read()
    assert len(got) == stream.next_offset
    if honest:
        assert got == _SENT[: len(got)]
        assert not stream.overlap
        if covered is not None:
            in_order = (~covered & (covered + 1)).bit_length() - 1
            assert len(got) == in_order
            assert stream.gap == (covered >= 1 << in_order)
            assert stream.dropped == 0


def _check_bounds(stream: Stream) -> None:
    # The bounds are on what is held, so what is held has to be looked at.
    queue = stream._queue
    assert len(queue) == len(queue._starts) == len(queue._ends) <= STREAM_PIECES
    assert len(stream._cuts) <= STREAM_CUTS
    assert queue.waiting == sum(map(len, queue._pieces))
    assert len(stream._data) + queue.waiting <= STREAM_BYTES
    for numbers in (queue._starts, queue._ends):
        assert all(low < high for low, high in pairwise(numbers))
    assert not queue or queue._starts[0] > stream.next_offset
