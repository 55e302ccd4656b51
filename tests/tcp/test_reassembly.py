"""Stream gives back the byte string whatever way its segments travelled."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import STREAM_BYTES, STREAM_PIECES
from deckwire.tcp.reassembly import Stream

SEQS = st.one_of(
    st.integers(0, 2**32 - 1),
    st.integers(2**32 - 64, 2**32 - 1),
    st.integers(2**31 - 64, 2**31 + 64),
)


def kept(stream: Stream) -> int:
    return len(stream._data) + sum(map(len, stream._pieces))


@st.composite
def journeys(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes]]]:
    """A byte string and its (offset, bytes) segments, shuffled, some twice or overlapping."""
    text = draw(st.binary(min_size=1, max_size=400))
    marks = draw(st.sets(st.integers(1, len(text)), max_size=40))
    edges = sorted({0, len(text), *marks})
    parts = [(a, text[a:b]) for a, b in pairwise(edges)]
    for _ in range(draw(st.integers(0, 5))):
        a = draw(st.integers(0, len(text) - 1))
        parts.append((a, text[a : a + draw(st.integers(1, 100))]))
    return text, draw(st.permutations(parts))


@given(SEQS, journeys(), st.booleans())
def test_any_journey_gives_back_the_bytes(
    first: int, journey: tuple[bytes, list[tuple[int, bytes]]], read_often: bool
) -> None:
    text, parts = journey
    stream = Stream(first)
    got = b""
    for offset, data in parts:
        stream.add((first + offset) % 2**32, data)
        if read_often:
            got += stream.read()
    got += stream.read()
    assert got == text
    assert stream.next_offset == len(text)
    assert (stream.gap, stream.overlap, stream.cut, stream.dropped) == (False, False, False, 0)
    assert 1 <= stream.segments <= len(parts)
    for offset, data in parts:
        stream.add((first + offset) % 2**32, data)
    assert stream.read() == b""
    assert kept(stream) == len(text)


@given(
    SEQS,
    st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1) | st.integers(-200, 70_000),
            st.integers(0, 70_000),
            st.none() | st.integers(0, 200_000),
            st.booleans(),
        ),
        max_size=60,
    ),
)
def test_arbitrary_segments_keep_memory_bounded(
    first: int, adds: list[tuple[int, int, int | None, bool]]
) -> None:
    stream = Stream(first)
    for number, (offset, length, claimed, read) in enumerate(adds):
        stream.add((first + offset) % 2**32, bytes([number]) * length, claimed)
        assert kept(stream) <= STREAM_BYTES
        assert stream._waiting == sum(map(len, stream._pieces))
        assert len(stream._pieces) == len(stream._starts) <= STREAM_PIECES
        runs = [(stream._base, stream._data), *zip(stream._starts, stream._pieces, strict=True)]
        ends = [start + len(run) for start, run in runs]
        assert all(end < start for end, (start, _) in zip(ends, runs[1:], strict=False))
        assert all(run for _, run in runs[1:])
        if read:
            stream.read()


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=20)), max_size=20))
def test_first_copy_of_every_byte_wins(adds: list[tuple[int, bytes]]) -> None:
    stream = Stream(7)
    model: dict[int, int] = {}
    differed = False
    contributed = 0
    for offset, data in adds:
        stream.add(7 + offset, data)
        before = len(model)
        for at, byte in enumerate(data, offset):
            differed |= model.setdefault(at, byte) != byte
        contributed += len(model) > before
    length = next(n for n in range(100) if n not in model)
    assert stream.read() == bytes(model[n] for n in range(length))
    assert stream.overlap is differed
    assert stream.segments == contributed
    assert stream.gap is (len(model) > length)


def test_one_byte_segments_in_order_make_no_pieces() -> None:
    stream = Stream(2**32 - 100)
    text = bytes(n % 251 for n in range(3_000))
    for n, byte in enumerate(text):
        stream.add((2**32 - 100 + n) % 2**32, bytes([byte]))
    assert stream.read() == text
    assert stream.segments == 3_000


@pytest.mark.parametrize("order", [1, -1])
def test_one_byte_segments_behind_a_hole_make_one_piece(order: int) -> None:
    stream = Stream(0)
    text = bytes(n % 251 for n in range(3_000))
    for n in range(1, 3_000)[::order]:
        stream.add(n, text[n : n + 1])
    assert len(stream._pieces) == 1
    assert stream.read() == b""
    stream.add(0, text[:1])
    assert stream.read() == text


def test_pieces_beyond_the_bound_are_refused_and_counted() -> None:
    stream = Stream(0)
    for n in range(STREAM_PIECES + 5):
        stream.add(2 + 2 * n, b"x")
    assert stream.dropped == 5
    assert stream.segments == STREAM_PIECES
    stream.add(0, b"ab")
    assert stream.read() == b"abx"


def test_bytes_too_far_ahead_are_refused_and_counted() -> None:
    stream = Stream(0)
    stream.add(STREAM_BYTES - 2, b"abcde")
    stream.add(STREAM_BYTES + 10, b"fgh")
    assert stream.dropped == 3 + 3
    stream.add(0, b"x" * (STREAM_BYTES - 2))
    assert stream.read() == b"x" * (STREAM_BYTES - 2) + b"ab"


def test_reading_makes_room_for_any_length() -> None:
    stream = Stream(2**32 - 1_000)
    total = 0
    for n in range(60):
        stream.add((2**32 - 1_000 + total) % 2**32, bytes([n]) * 5_000)
        assert stream.read() == bytes([n]) * 5_000
        total += 5_000
    assert stream.next_offset == total
    assert kept(stream) == STREAM_BYTES
    stream.add((2**32 - 1_000) % 2**32, b"other")  # read and forgotten long ago
    assert (stream.overlap, stream.dropped, stream.read()) == (False, 0, b"")


def test_bytes_before_the_stream_are_trimmed() -> None:
    stream = Stream(1_000)
    stream.add(990, b"0123456789")
    assert stream.segments == 0
    stream.add(998, b"89abc")
    assert stream.read() == b"abc"


def test_a_differing_retransmission_of_read_bytes_is_noted() -> None:
    stream = Stream(0)
    stream.add(0, b"secret")
    assert stream.read() == b"secret"
    stream.add(0, b"secreT")
    assert stream.overlap
    assert stream.read() == b""


def test_a_cut_segment_leaves_a_hole_known_as_cut() -> None:
    stream = Stream(0)
    stream.add(0, b"abc", claimed_len=10)
    assert stream.cut
    assert not stream.gap
    stream.add(10, b"klm")
    assert (stream.cut, stream.gap) == (True, True)
    stream.add(3, b"defghij")
    assert (stream.cut, stream.gap) == (False, False)
    assert stream.read() == b"abcdefghijklm"


def test_a_lost_segment_is_no_cut() -> None:
    stream = Stream(0)
    stream.add(5, b"fgh", claimed_len=20)
    assert (stream.cut, stream.gap) == (False, True)
    stream.add(0, b"abcde")
    assert (stream.cut, stream.gap) == (True, False)


def test_cut_ranges_are_bounded() -> None:
    stream = Stream(0)
    for n in range(STREAM_PIECES + 50):
        stream.add(10 + 2 * n, b"", claimed_len=1)
    stream.add(10, b"", claimed_len=2**31)
    assert len(stream._cuts) <= STREAM_PIECES
    assert (stream.segments, stream.cut) == (0, False)
