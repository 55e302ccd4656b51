"""Lines that a reader left unread in a pipe or a socket."""

from __future__ import annotations

import os
import socket

import pytest

from deckwire.output.sinks.pipe_writer import PipeWriter

LINES = [b"%04d" % number for number in range(10)]


def test_exactly_the_lines_left_unread_in_a_pipe_are_in_doubt() -> None:
    reader, writer = os.pipe()
    pipe = PipeWriter(writer)
    assert pipe.send(LINES[:5]) == 5
    os.read(reader, 25)
    assert pipe.send(LINES[5:]) == 5
    assert os.read(reader, 12) == b"0005\n0006\n00"
    assert pipe.in_doubt() == 0
    os.close(reader)
    assert pipe.in_doubt() == 3
    with pytest.raises(BrokenPipeError):
        pipe.send(LINES)
    assert pipe.in_doubt() == 3
    os.close(writer)


def test_the_lines_left_unread_in_a_socket_are_in_doubt_and_maybe_more() -> None:
    """systemd's journal reads what a service prints from such a socket."""
    ours, peer = socket.socketpair()
    with ours, peer:
        pipe = PipeWriter(ours.fileno())
        pipe.send(LINES[:5])
        peer.recv(25)
        pipe.send(LINES[5:])
        peer.recv(5)
        assert pipe.in_doubt() == 0
        peer.close()
        assert pipe.in_doubt() == 5


def test_a_file_has_no_reader_that_could_go(tmp_path: object) -> None:
    descriptor = os.open(f"{tmp_path}/file", os.O_CREAT | os.O_RDWR)
    pipe = PipeWriter(descriptor)
    assert pipe.send(LINES) == 10
    assert pipe.in_doubt() == 0
    assert os.pread(descriptor, 100, 0).split() == LINES
    os.close(descriptor)
