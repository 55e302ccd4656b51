"""Pieces behind a hole are resolved as Linux resolves them, within their memory."""

from __future__ import annotations

import pytest

from deckwire.tcp.out_of_order import PIECE_BYTES, OutOfOrderQueue, room_behind

Pieces = list[tuple[int, bytes]]


def filled(pieces: Pieces) -> OutOfOrderQueue:
    queue = OutOfOrderQueue()
    for start, data in pieces:
        queue.insert(start, data)
    return queue


@pytest.mark.parametrize(
    ("pieces", "read"),
    [
        ([(1, b"abcd"), (2, b"XY")], b"abcd"),  # inside
        ([(1, b"abcd"), (1, b"WXYZ")], b"abcd"),  # the same
        ([(2, b"bc"), (1, b"WXYZ")], b"WXYZ"),  # around
        ([(1, b"ab"), (1, b"WXYZ")], b"WXYZ"),  # around, from the same start
        ([(3, b"cd"), (1, b"WXYZ")], b"WXYZ"),  # around, to the same end
        ([(1, b"abc"), (3, b"YZ")], b"abcZ"),  # over the end
        ([(2, b"bcd"), (1, b"WX")], b"WXcd"),  # over the beginning
        ([(1, b"ab"), (5, b"ef"), (2, b"XYZ!")], b"abYZ!f"),  # over both of two
        ([(1, b"a"), (2, b"b"), (4, b"d"), (1, b"WXYZ")], b"WXYZ"),  # around several
        ([(1, b"ab"), (4, b"de"), (3, b"XYZ")], b"abXYZ"),  # appended, and around one
        ([(1, b"abc"), (3, b"XYZ"), (4, b"!")], b"abc!Z"),  # appended to the older one
        ([(3, b"XYZ"), (1, b"abc"), (4, b"!")], b"abcYZ"),  # inside the older one
    ],
)
def test_which_copy_of_a_byte_counts(pieces: Pieces, read: bytes) -> None:
    queue = filled(pieces)
    assert queue.take(1) == read
    assert (len(queue), queue.waiting, queue.held) == (0, 0, 0)


def test_a_segment_that_brings_nothing_is_refused() -> None:
    queue = filled([(1, b"abcd")])
    assert not queue.insert(2, b"XY")
    assert queue.insert(4, b"XY")


def test_only_bytes_that_count_are_kept() -> None:
    queue = filled([(n, b"x" * 1_000) for n in range(1, 500)])
    assert queue.waiting == 1_498
    assert queue.held == 1_498 + 499 * PIECE_BYTES


def test_bytes_that_differ_are_noticed_in_every_piece_that_gives_some() -> None:
    queue = filled([(1, b"abc"), (3, b"cde"), (10, b"k")])
    assert not queue.contradicts(1, b"abcde????k")
    for start, data in ((1, b"X"), (3, b"X"), (5, b"X"), (0, b"?abcdX"), (9, b"?X")):
        assert queue.contradicts(start, data)
    assert not queue.contradicts(6, b"????")


def test_pieces_stay_while_the_bytes_before_them_are_missing() -> None:
    queue = filled([(5, b"ef"), (9, b"i")])
    assert queue.take(4) == b""
    assert queue.take(6) == b"f"
    assert (len(queue), queue.waiting) == (1, 1)


def test_taking_can_stop_before_an_offset() -> None:
    queue = filled([(1, b"ab"), (4, b"de")])
    queue.insert(3, b"c")
    assert queue.take(1, before=4) == b"abc"
    assert queue.take(4) == b"de"


def test_pieces_that_adjoin_or_overlap_are_one_run() -> None:
    queue = OutOfOrderQueue()
    assert list(queue.runs()) == []
    for start, data in ((30, b"ghi"), (10, b"abc"), (13, b"def"), (12, b"XYZ"), (34, b"k")):
        queue.insert(start, data)
    assert list(queue.runs()) == [(10, b"abcdef"), (30, b"ghi"), (34, b"k")]


def test_the_lowest_piece_can_be_dropped_and_what_it_gave_is_missing() -> None:
    queue = filled([(1, b"abc"), (3, b"cde"), (10, b"k")])
    assert queue.drop_lowest() == 3
    assert queue.take(3) == b""
    assert queue.take(4) == b"de"


def test_pieces_that_overlapped_the_lowest_stay_in_order() -> None:
    queue = filled([(0, b"abcd"), (1, b"abcdef"), (2, b"abcdefgh"), (9, b"ABC")])
    assert queue.drop_lowest() == 4
    assert queue.take(3) == b""
    assert queue.take(4) == b"def" + b"fgh" + b"BC"


def test_pieces_beyond_an_offset_can_be_dropped() -> None:
    queue = filled([(1, b"abc"), (6, b"fg"), (9, b"i")])
    assert queue.drop_beyond(7) == 3
    assert queue.take(1) == b"abc"
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("held", "segment", "joined", "apart"),
    [
        ([(10, 20)], (30, 40), None, None),
        ([(10, 20)], (20, 30), None, None),
        ([(10, 20)], (12, 18), (12, 18), (12, 18)),
        ([(10, 20)], (15, 25), (15, 20), (15, 20)),
        ([(10, 20)], (5, 15), (10, 15), (10, 15)),
        ([(10, 20)], (10, 25), None, None),
        ([(10, 20), (30, 40)], (15, 50), (15, 20), (15, 20)),
        ([(10, 20), (20, 40)], (15, 45), (15, 40), (15, 40)),
        ([(10, 20), (15, 40)], (20, 50), None, (20, 40)),
        ([(10, 20), (20, 40), (40, 60)], (50, 70), (50, 60), (50, 60)),
    ],
)
def test_what_a_segment_has_twice(
    held: list[tuple[int, int]],
    segment: tuple[int, int],
    joined: tuple[int, int] | None,
    apart: tuple[int, int] | None,
) -> None:
    """The D-SACK of Linux: with joins a segment behind a piece is appended without one."""
    for joins, duplicate in ((True, joined), (False, apart)):
        queue = OutOfOrderQueue(joins=joins)
        for start, end in held:
            queue.insert(start, bytes(end - start))
        queue.insert(segment[0], bytes(segment[1] - segment[0]))
        assert queue.duplicate == duplicate


@pytest.mark.parametrize(
    ("packet", "room"),
    [(40, 152), (192, 0), (193, 511), (704, 0), (705, 1_023), (7_872, 0), (7_873, 0), (9_000, 0)],
)
def test_the_room_behind_a_packet(packet: int, room: int) -> None:
    assert room_behind(packet) == room


@pytest.mark.parametrize(("room", "fits"), [(5, True), (4, False)])
def test_a_segment_is_appended_if_it_fits(room: int, fits: bool) -> None:
    """A third one over both shows it: inside one piece it is dropped."""
    for joins in (True, False):
        queue = OutOfOrderQueue(joins=joins)
        queue.insert(10, b"aaaaa", room)
        queue.insert(15, b"bbbbb", room)
        queue.insert(12, b"cccccc", room)
        appended = fits if joins else not fits
        assert len(queue) == (1 if appended else 3)
        assert queue.take(10) == (b"aaaaabbbbb" if appended else b"aaaaacccbb")


def test_what_was_appended_takes_room() -> None:
    queue = OutOfOrderQueue()
    for start in (10, 12, 14, 16):
        queue.insert(start, b"xx", room=4)
    assert len(queue) == 2
