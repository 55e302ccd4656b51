"""Frames, lines and datagrams that are taken in parts."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.output.sinks.datagram_writer import DatagramWriter
from deckwire.output.sinks.stream_writer import LineWriter, StreamWriter


class Pipe:
    """Takes as many bytes a call as its script says, or raises the error in it."""

    def __init__(self, script: list[int | OSError]) -> None:
        self.script = script
        self.got = b""

    def write(self, data: memoryview) -> int:
        step = self.script.pop(0) if self.script else len(data)
        if isinstance(step, OSError):
            raise step
        self.got += bytes(data[:step])
        return min(step, len(data))


@given(
    st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=9),
    st.lists(st.integers(0, 12) | st.builds(TimeoutError) | st.builds(OSError), max_size=9),
)
def test_frames_taken_in_any_parts_are_neither_lost_nor_repeated(
    frames: list[bytes], script: list[int | OSError]
) -> None:
    pipe = Pipe(script)
    stream = StreamWriter(pipe.write)
    left = list(frames)
    while left:
        try:
            sent = stream.send(left)
        except OSError:
            continue
        del left[:sent]
        assert pipe.got.startswith(b"".join(frames[: len(frames) - len(left)]))
    assert pipe.got == b"".join(frames)


def test_an_error_is_raised_only_if_no_frame_went() -> None:
    stream = StreamWriter(Pipe([4, OSError(errno.EPIPE, "x"), OSError(errno.EPIPE, "x")]).write)
    assert stream.send([b"abc", b"def"]) == 1
    with pytest.raises(OSError, match="x"):
        stream.send([b"def"])


def test_lines_end_in_a_newline() -> None:
    pipe = Pipe([])
    assert LineWriter(pipe.write).send([b"a", b"", b"b"]) == 3
    assert pipe.got == b"a\n\nb\n"


def test_an_error_after_a_datagram_that_went_is_raised_by_the_next_call() -> None:
    script: list[OSError | None] = [None, OSError(errno.EPERM, "x"), None, TimeoutError()]
    got: list[bytes] = []

    def send_one(line: bytes) -> int:
        step = script.pop(0) if script else None
        if step is not None:
            raise step
        got.append(line)
        return len(line)

    datagrams = DatagramWriter(send_one)
    assert datagrams.send([b"a", b"b", b"c"]) == 1
    with pytest.raises(OSError, match="x"):
        datagrams.send([b"b", b"c"])
    assert datagrams.send([b"b", b"c"]) == 1
    assert datagrams.send([b"c"]) == 1
    assert got == [b"a", b"b", b"c"]
