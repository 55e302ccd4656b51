"""Datagrams that a receiver had not read when it went away."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.output.sinks.unix_datagram_socket import UnixDatagramSocket

LINES = [b"line %d" % number for number in range(5)]


def listening(path: Path) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path))
    return receiver


@pytest.fixture
def receiver(short_path: Path) -> Iterator[socket.socket]:
    with listening(short_path / "log") as made:
        yield made


@pytest.fixture
def sender(short_path: Path, receiver: socket.socket) -> UnixDatagramSocket:
    path = str(short_path / "log")
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    connected.connect(path)
    return UnixDatagramSocket(connected, path)


def refuse_to_wait(seconds: float) -> bool:
    return True


def test_datagrams_that_were_read_settle(
    sender: UnixDatagramSocket, receiver: socket.socket
) -> None:
    assert sender.send(LINES) == 5
    assert not sender.is_over()
    assert sender.unsettled == 5
    for _ in LINES:
        receiver.recv(100)
    assert not sender.is_over()
    assert sender.unsettled == 0
    receiver.close()
    assert sender.close(refuse_to_wait) == 0


def test_the_next_line_settles_too(sender: UnixDatagramSocket, receiver: socket.socket) -> None:
    sender.send(LINES)
    for _ in LINES:
        receiver.recv(100)
    sender.send(LINES[:1])
    assert sender.unsettled == 1


@pytest.mark.parametrize("again", [False, True])
def test_datagrams_unread_when_the_receiver_went_away_are_in_doubt(
    sender: UnixDatagramSocket, receiver: socket.socket, short_path: Path, again: bool
) -> None:
    """Even though the kernel, which dropped them, reports that nothing is outstanding."""
    sender.send(LINES)
    receiver.recv(100)
    receiver.close()
    if again:
        (short_path / "log").unlink()
        other = listening(short_path / "log")
    assert sender.is_over()
    # One was read, but the sender cannot know it.
    assert sender.close(refuse_to_wait) == 5
    if again:
        other.close()


def test_a_refused_line_puts_those_before_it_in_doubt(
    sender: UnixDatagramSocket, receiver: socket.socket
) -> None:
    sender.send(LINES)
    receiver.close()
    with pytest.raises(ConnectionRefusedError):
        sender.send(LINES)
    assert sender.close(refuse_to_wait) == 5


def test_a_live_receiver_may_still_read_what_we_leave(
    sender: UnixDatagramSocket, receiver: socket.socket
) -> None:
    sender.send(LINES)
    assert sender.close(refuse_to_wait) == 0
    assert [receiver.recv(100) for _ in LINES] == LINES
