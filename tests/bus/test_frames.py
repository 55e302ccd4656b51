"""The frames of the bus: whole, in pieces, and malformed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.bus.frames import Frame, FrameError, Reader, is_topic, pack
from deckwire.limits import BUS_BODY_BYTES, BUS_HEADER_BYTES

FRAMES = [Frame("HELLO", "sniffer"), Frame("PUB", "a.b", b'{"v":1}'), Frame("BYE", "")]


def test_the_bytes_of_frames() -> None:
    assert b"".join(map(pack, FRAMES)) == (
        b'HELLO sniffer\n\0\0\0\0PUB a.b\n\0\0\0\x07{"v":1}BYE\n\0\0\0\0'
    )


@given(st.lists(st.integers(1, 20)))
def test_a_stream_may_come_in_any_pieces(sizes: list[int]) -> None:
    stream = b"".join(map(pack, FRAMES))
    reader, found, at = Reader(), [], 0
    for size in [*sizes, len(stream)]:
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == FRAMES


@pytest.mark.parametrize(
    "data",
    [
        b"x" * BUS_HEADER_BYTES,
        b"EVT a\n" + (BUS_BODY_BYTES + 1).to_bytes(4, "big"),
        b"EVT \xff\n\0\0\0\0",
    ],
    ids=["header", "length", "not ASCII"],
)
def test_what_is_no_frame_ends_the_stream(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(Reader().feed(data))


def test_the_largest_frame_is_read() -> None:
    largest = Frame("EVT", "a" * (BUS_HEADER_BYTES - 5), bytes(BUS_BODY_BYTES))
    assert list(Reader().feed(pack(largest))) == [largest]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    reader = Reader()
    with suppress(FrameError):
        assert all(isinstance(frame, Frame) for frame in reader.feed(data))


@pytest.mark.parametrize(
    "frame",
    [
        Frame("PUB", "a\nb"),
        Frame("PUB", "\xe9"),
        Frame("PUB", "a" * BUS_HEADER_BYTES),
        Frame("PUB", "a", bytes(BUS_BODY_BYTES + 1)),
    ],
)
def test_a_frame_that_cannot_be_sent_is_refused(frame: Frame) -> None:
    with pytest.raises(FrameError):
        pack(frame)


def test_topics() -> None:
    assert is_topic("decky.web-01.traffic")
    assert not any(map(is_topic, ("", "a..b", ".a", "a.", "a b", "a\nb", "\xe9")))
