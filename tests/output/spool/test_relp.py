"""RELP frames: what we send, and what a hostile or broken receiver may answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.limits import RELP_FRAME_BYTES
from deckwire.output.spool.relp import RelpReceiver
from deckwire.output.spool.spool import SpooledLine

OK = b"200 OK"


def frame(number: int, command: bytes, data: bytes) -> bytes:
    return b"%d %b %d%b\n" % (number, command, len(data), b" " + data if data else b"")


class Server:
    """The other end of the connection, as bytes."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        self.socket.settimeout(PATIENCE_SECONDS)
        self.receiver = RelpReceiver(lambda: ours)

    def open(self) -> bytes:
        """Open the session, and return the frame that asked for it."""
        self.socket.sendall(frame(1, b"rsp", OK + b"\nrelp_version=0\ncommands=syslog"))
        self.receiver.connect()
        return self.read()

    def read(self) -> bytes:
        return self.socket.recv(1 << 20)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    with closing(made.socket):
        yield made
        made.receiver.close()


def lines(*numbers: int) -> list[SpooledLine]:
    return [SpooledLine(number, b"line %d" % number) for number in numbers]


def test_a_session_is_opened_used_and_closed(server: Server) -> None:
    opening = server.open()
    assert opening.startswith(b"1 open ")
    assert b"relp_version=0\n" in opening
    assert b"commands=syslog" in opening
    server.receiver.send(lines(7, 8))
    assert server.read() == b"2 syslog 6 line 7\n3 syslog 6 line 8\n"
    server.socket.sendall(frame(2, b"rsp", OK) + frame(3, b"rsp", OK))
    assert server.receiver.acknowledged(20) == 8
    server.receiver.close()
    assert server.read() == b"4 close 0\n"


def test_lines_count_up_to_the_first_that_is_not_acknowledged(server: Server) -> None:
    server.open()
    server.receiver.send(lines(5, 6, 9))
    server.socket.sendall(frame(3, b"rsp", OK))
    assert server.receiver.acknowledged(20) == 0
    server.socket.sendall(frame(2, b"rsp", OK))
    assert server.receiver.acknowledged(20) == 6
    assert server.receiver.acknowledged(0) == 0
    server.socket.sendall(frame(4, b"rsp", OK))
    assert server.receiver.acknowledged(20) == 9


def test_an_answer_may_come_in_pieces(server: Server) -> None:
    server.open()
    server.receiver.send(lines(1))
    answer = frame(2, b"rsp", OK)
    for byte in answer[:-1]:
        server.socket.sendall(bytes([byte]))
        assert server.receiver.acknowledged(20) == 0
    server.socket.sendall(answer[-1:])
    assert server.receiver.acknowledged(20) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "does not answer in RELP"),
        (b"220 mail.example ESMTP\r\n", "does not answer in RELP"),
        (b"1 rsp\n", "does not answer in RELP"),
        (b"1 rsp 6 200 OKx", "does not answer in RELP"),
        (b"x" * 100, "does not answer in RELP"),
        (b"1 rsp %d " % (RELP_FRAME_BYTES + 1), "too long"),
        (frame(1, b"rsp", b"500 no \x1b[31m room"), r"answers 500 no \\x1b\[31m room"),
        (frame(1, b"rsp", b""), "does not answer in RELP"),
        (frame(1, b"syslog", OK), "does not answer in RELP"),
        (b"", "closed the connection"),
    ],
)
def test_what_is_no_relp_receiver_is_an_error(server: Server, answer: bytes, reason: str) -> None:
    server.socket.sendall(answer)
    server.socket.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match=reason):
        server.receiver.connect()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (frame(2, b"rsp", b"500 disk full"), "answers 500 disk full"),
        (frame(0, b"serverclose", b""), "closed the session"),
        (b"", "closed the connection"),
    ],
)
def test_the_end_of_a_session_is_an_error(server: Server, answer: bytes, reason: str) -> None:
    server.open()
    server.receiver.send(lines(1))
    server.socket.sendall(answer)
    server.socket.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match=reason):
        server.receiver.acknowledged(20)


def test_answers_to_what_was_never_sent_are_not_kept(server: Server) -> None:
    server.open()
    server.receiver.send(lines(1, 2))
    unknown = b"".join(frame(1_000_000 + number, b"rsp", OK) for number in range(100))
    server.socket.sendall(unknown + frame(3, b"rsp", OK))
    assert server.receiver.acknowledged(20) == 0
    session = server.receiver._session
    assert session is not None
    assert session._answered == {3}


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_answer_raises_anything_but_os_error(pieces: list[bytes]) -> None:
    server = Server()
    with closing(server.socket):
        server.open()
        server.receiver.send(lines(1, 2, 3))
        finish = threading.Thread(target=lambda: drain(server.receiver.acknowledged))
        finish.start()
        try:
            for piece in pieces:
                server.socket.sendall(piece)
        except OSError:
            pass
        server.socket.shutdown(socket.SHUT_WR)
        finish.join(PATIENCE_SECONDS)
        assert not finish.is_alive()
        server.receiver.close()


def drain(acknowledged: Callable[[float], int]) -> None:
    try:
        while True:
            acknowledged(20)
    except OSError:
        return
