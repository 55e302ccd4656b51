"""Stream reads what the receiver's TCP reads, whatever order its segments come in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deckwire.limits import STREAM_BYTES, STREAM_CUTS, STREAM_PIECES
from deckwire.tcp.out_of_order import PIECE_BYTES
from deckwire.tcp.reassembly import Stream
from tests.support.linux_receiver import LinuxReceiver

SEQS = st.one_of(
    st.integers(0, 2**32 - 1),
    st.integers(2**32 - 64, 2**32 - 1),
    st.integers(2**31 - 64, 2**31 + 64),
)


def kept(stream: Stream) -> int:
    """Payload bytes kept."""
    return len(stream._data) + stream._queue.waiting


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes]]]:
    """A byte string and its (offset, bytes) segments, shuffled, some twice or overlapping."""
    text = draw(st.binary(min_size=1, max_size=400))
    marks = draw(st.sets(st.integers(1, len(text)), max_size=40))
    edges = sorted({0, len(text), *marks})
    parts = [(a, text[a:b]) for a, b in pairwise(edges)]
    for _ in range(draw(st.integers(0, 5))):
        a = draw(st.integers(0, len(text) - 1))
        parts.append((a, text[a : a + draw(st.integers(1, 100))]))
    return text, draw(st.permutations(parts))


@given(SEQS, cuttings(), st.booleans())
def test_any_order_gives_back_the_bytes(
    first: int, cutting: tuple[bytes, list[tuple[int, bytes]]], read_often: bool
) -> None:
    text, parts = cutting
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
    st.booleans(),
)
def test_arbitrary_segments_keep_memory_bounded(
    first: int, adds: list[tuple[int, int, int | None, bool]], begun: bool
) -> None:
    stream = Stream(first, begun=begun)
    for number, (offset, length, claimed, read) in enumerate(adds):
        stream.add((first + offset) % 2**32, bytes([number]) * length, claimed)
        queue = stream._queue
        assert kept(stream) <= STREAM_BYTES
        assert stream.held == kept(stream) + PIECE_BYTES * len(queue)
        assert len(stream._cuts) <= STREAM_CUTS
        assert queue.waiting == sum(map(len, queue._pieces))
        assert len(queue) == len(queue._starts) == len(queue._ends) == len(queue._ages)
        assert len(queue) <= STREAM_PIECES
        assert all(queue._pieces)
        for numbers in (queue._starts, queue._ends):
            assert all(low < high for low, high in pairwise(numbers))
        if begun and queue:
            assert queue._starts[0] > stream.next_offset
        if read:
            stream.read()
        if number == 20:
            stream.begin((first + offset) % 2**32)
            begun = True


@st.composite
def attacks(draw: st.DrawFn) -> list[tuple[int, bytes, int | None]]:
    """Offsets, bytes and urgent offsets: any order, overlaps, copies that differ or not."""
    length = draw(st.sampled_from([8, 40]))
    text = draw(st.binary(min_size=length, max_size=length))
    segments: list[tuple[int, bytes, int | None]] = []
    for _ in range(draw(st.integers(1, 16))):
        start = draw(st.integers(0, length - 1))
        data = text[start : draw(st.integers(start, length))]
        if draw(st.booleans()):
            data = draw(st.binary(min_size=len(data), max_size=len(data)))
        urgent = draw(st.none() | st.none() | st.none() | st.integers(0, 12))
        segments.append((start, data, None if urgent is None else start + urgent))
    return segments


@settings(max_examples=500)
@given(SEQS, attacks(), st.booleans())
def test_what_is_read_is_what_linux_reads(
    first: int, segments: list[tuple[int, bytes, int | None]], read_often: bool
) -> None:
    stream, linux = Stream(first), LinuxReceiver()
    got = b""
    for start, data, urgent in [*segments, (0, bytes(50), None)]:
        urgent_seq = None if urgent is None else (first + urgent) % 2**32
        stream.add((first + start) % 2**32, data, None, urgent_seq)
        linux.segment(start, data, urgent)
        if read_often:
            got += stream.read()
            assert got == linux.read
        assert stream.next_offset == linux.rcv_nxt
        assert stream.gap is linux.gap
        assert stream.overlap is linux.differed
    assert got + stream.read() == linux.read


def test_the_urgent_byte_is_left_out_wherever_it_comes() -> None:
    for cuts in ([0, 6], [0, 2, 6], [0, 3, 6], [0, 2, 3, 6]):
        for order in (1, -1):
            stream = Stream(5)
            for start, end in list(pairwise(cuts))[::order]:
                stream.add(5 + start, b"ab!cde"[start:end], None, 5 + 2)
            assert stream.peek(9) == stream.peek(1) + stream.peek(9, 1) == b"abcde"
            assert stream.read() == b"abcde"
            assert stream.next_offset == 6


def test_an_urgent_pointer_may_come_before_its_byte_without_data() -> None:
    stream = Stream(0)
    stream.add(0, b"", None, 2)
    stream.add(0, b"ab")
    stream.add(2, b"!c")
    assert stream.read() == b"abc"


def test_an_urgent_pointer_at_bytes_in_order_marks_nothing() -> None:
    stream = Stream(0)
    stream.add(0, b"abc")
    stream.add(3, b"d", None, 1)
    stream.add(1, b"", None, 9)  # of a segment that is old as a whole
    stream.add(4, b"efghijk")
    assert stream.read() == b"abcdefghijk"


def test_a_later_urgent_pointer_makes_the_earlier_byte_an_ordinary_one() -> None:
    stream = Stream(0)
    stream.add(1, b"bc", None, 1)
    stream.add(3, b"de", None, 4)
    stream.add(1, b"bc", None, 2)  # and one that is not later changes nothing
    stream.add(0, b"a")
    assert stream.read() == b"abcd"


def test_a_stream_whose_beginning_is_unknown_waits_for_it() -> None:
    stream = Stream(2**32 - 3, begun=False)
    stream.add(2**32 - 3, b"old")
    stream.add(4, b"ef")
    stream.add(0, b"abc")
    assert (stream.read(), stream.peek(1), stream.gap) == (b"", b"", True)
    stream.begin(1)
    assert stream.read() == b"bc"
    stream.add(3, b"d")
    assert stream.read() == b"def"


def test_what_was_read_last_may_wait_for_another_beginning() -> None:
    stream = Stream(0xFFFF_FFFE)
    stream.add(0xFFFF_FFFE, b"abcdef")
    stream.add(10, b"later")
    assert stream.read() == b"abcdef"
    stream.lose_beginning(4)
    assert list(stream.waiting()) == [(0, b"cdef"), (10, b"later")]
    stream.add(4, b"ghijkl")
    assert list(stream.waiting()) == [(0, b"cdefghijkllater")]
    stream.begin(2)
    assert stream.read() == b"efghijkllater"


def test_the_segment_that_shows_the_beginning_counts_before_those_that_wait() -> None:
    stream = Stream(0, begun=False)
    stream.add(2, b"XXXX")
    stream.add(0, b"ab")
    stream.begin(0, 2)
    stream.add(2, b"cde")
    assert stream.read() == b"abcdeX"
    assert stream.overlap


def test_the_beginning_can_move_into_what_is_in_order() -> None:
    stream = Stream(0)
    stream.add(0, b"line hello")
    stream.begin(5)
    assert stream.read() == b"hello"


def test_a_lost_beginning_keeps_what_is_unread() -> None:
    stream = Stream(0)
    stream.add(0, b"li")
    stream.add(4, b"!he")
    stream.add(2, b"ne", None, 4)
    stream.lose_beginning()
    assert (stream.read(), stream.gap) == (b"", True)
    stream.add(90_000, b"far")
    stream.begin(5)
    assert stream.read() == b"he"
    assert (stream.gap, stream.dropped) == (False, 3)


def test_while_the_beginning_is_unknown_the_lowest_piece_makes_room() -> None:
    stream = Stream(0, begun=False)
    for n in range(STREAM_PIECES + 2):
        stream.add(3 * n, b"x!")
    assert stream.dropped == 4
    stream.begin(3 * (STREAM_PIECES + 1))
    assert stream.read() == b"x!"


def test_one_byte_segments_in_order_make_no_pieces() -> None:
    stream = Stream(2**32 - 100)
    text = bytes(n % 251 for n in range(3_000))
    for n, byte in enumerate(text):
        stream.add((2**32 - 100 + n) % 2**32, bytes([byte]))
    assert not stream.gap
    assert stream.read() == text


TEXT = bytes(n % 251 for n in range(3_900))


@pytest.mark.parametrize(
    "order",
    [
        range(1, 3_900),
        range(3_899, 0, -1),
        [*range(2, 3_900, 2), *range(1, 3_900, 2)],
        [*range(3_899, 0, -2), *range(2, 3_900, 2)],
    ],
    ids=["forward", "backward", "even then odd", "odd backward then even"],
)
def test_a_whole_hello_in_single_bytes_behind_a_hole_is_read(order: Iterable[int]) -> None:
    stream = Stream(0)
    for n in order:
        stream.add(n, TEXT[n : n + 1])
    assert stream.read() == b""
    stream.add(0, TEXT[:1])
    assert stream.read() == TEXT
    assert stream.dropped == 0


def test_retransmissions_take_no_room() -> None:
    stream = Stream(0)
    stream.add(0, TEXT[:1_000])
    stream.add(1_500, TEXT[1_500:2_000])
    held = stream.held
    for _ in range(500):
        stream.add(0, TEXT[:1_000])
        stream.add(1_500, TEXT[1_500:2_000])
        stream.add(1_600, TEXT[1_600:1_700])
    assert (stream.held, stream.dropped) == (held, 0)
    stream.add(1_000, TEXT[1_000:1_500])
    assert stream.read() == TEXT[:2_000]


def test_pieces_beyond_the_bound_are_refused_and_counted() -> None:
    stream = Stream(0)
    for n in range(STREAM_PIECES + 5):
        stream.add(2 + 2 * n, b"x")
    assert stream.dropped == 5
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
    stream.add((2**32 - 1_000) % 2**32, b"other")  # read and dropped long ago
    assert (stream.overlap, stream.dropped, stream.read()) == (False, 0, b"")


def test_bytes_before_the_stream_are_trimmed() -> None:
    stream = Stream(1_000)
    stream.add(990, b"0123456789")
    assert stream.next_offset == 0
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
    assert len(stream._cuts) <= STREAM_CUTS
    assert (stream.next_offset, stream.cut) == (0, False)
