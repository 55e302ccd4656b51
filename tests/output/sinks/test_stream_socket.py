"""Which lines are in doubt after each kind of end of a connection, with real sockets."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.limits import SINK_UNCONFIRMED
from deckwire.output.sinks.kernel_buffer import unsent_bytes
from deckwire.output.sinks.stream_socket import SETTLE_S, StreamSocket
from tests.support.rsyslog_server import wait_until

LINES = [b"%04d" % number for number in range(100)]
BYTES = 5
RESET = struct.pack("ii", 1, 0)


class Clock:
    """Goes on only when a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Pair:
    """A StreamSocket and the peer's socket."""

    def __init__(self, ours: socket.socket, peer: socket.socket) -> None:
        self.clock = Clock()
        self.ours = ours
        self.peer = peer
        self.ours.settimeout(0.5)
        self.peer.settimeout(PATIENCE_SECONDS)
        self.connection = StreamSocket(ours, lambda line: line + b"\n", self.clock)

    def read(self, count: int) -> None:
        data = b""
        while len(data) < count * BYTES:
            data += self.peer.recv(count * BYTES - len(data))
        assert data.splitlines() == LINES[:count]

    def settle(self) -> None:
        """Make all lines sent until now settled."""
        wait_until(lambda: not unsent_bytes(self.ours.fileno()), "all is acknowledged")
        assert not self.connection.is_over()
        self.clock.now += SETTLE_S
        assert not self.connection.is_over()
        assert self.connection.unsettled == 0

    def close(self) -> int:
        return self.connection.close(patience())


def patience() -> Callable[[float], bool]:
    """Waits long for the peer, as a sink does while it closes."""
    deadline = time.monotonic() + PATIENCE_SECONDS

    def is_over(seconds: float) -> bool:
        time.sleep(seconds)
        return time.monotonic() > deadline

    return is_over


@pytest.fixture
def tcp() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with ours, peer:
        yield Pair(ours, peer)


@pytest.fixture
def unix() -> Iterator[Pair]:
    ours, peer = socket.socketpair()
    with ours, peer:
        yield Pair(ours, peer)


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


def test_nothing_is_in_doubt_when_a_peer_closes_that_had_read_all(pair: Pair) -> None:
    assert pair.connection.send(LINES) == 100
    pair.read(100)
    pair.peer.close()
    wait_until(pair.connection.is_over, "the end is seen")
    assert pair.close() == 0


def test_what_was_written_after_the_peer_closed_is_in_doubt(tcp: Pair) -> None:
    tcp.connection.send(LINES[:10])
    tcp.read(10)
    tcp.settle()
    tcp.peer.close()
    # The kernel takes them, and the peer's reset comes after that.
    tcp.connection.send(LINES[10:17])
    wait_until(tcp.connection.is_over, "the end is seen")
    assert tcp.close() == 7


def test_a_write_to_a_closed_unix_peer_puts_nothing_in_doubt(unix: Pair) -> None:
    unix.connection.send(LINES[:10])
    unix.read(10)
    unix.peer.close()
    with pytest.raises(BrokenPipeError):
        unix.connection.send(LINES[10:17])
    assert unix.close() == 0


def test_what_the_peer_closed_without_reading_is_in_doubt(pair: Pair) -> None:
    pair.connection.send(LINES[:10])
    pair.read(10)
    pair.settle()
    pair.connection.send(LINES[10:40])
    pair.peer.recv(4 * BYTES)
    pair.peer.close()
    wait_until(pair.connection.is_over, "the end is seen")
    # Four of them were read, but the sender cannot know it.
    assert pair.close() == 30


def test_a_write_to_a_broken_connection_puts_unread_lines_in_doubt(
    pair: Pair,
) -> None:
    pair.connection.send(LINES[:10])
    pair.peer.close()

    def fails() -> bool:
        try:
            pair.connection.send(LINES[10:11])
        except ConnectionError:
            return True
        return False

    wait_until(fails, "a write fails")
    assert pair.close() >= 10


def test_a_unix_peer_s_unread_lines_are_in_doubt_and_no_others(unix: Pair) -> None:
    """No wait is needed: the kernel reports how much was not read."""
    unix.connection.send(LINES[:10])
    unix.read(10)
    assert not unix.connection.is_over()
    assert unix.connection.unsettled == 0
    unix.connection.send(LINES[10:12])
    assert not unix.connection.is_over()
    unix.peer.close()
    assert unix.connection.is_over()
    assert unix.close() == 2


def test_a_reset_by_a_peer_that_read_all_leaves_the_last_lines_in_doubt(tcp: Pair) -> None:
    tcp.connection.send(LINES[:10])
    tcp.read(10)
    tcp.settle()
    tcp.connection.send(LINES[:3])
    tcp.read(3)
    wait_until(lambda: not unsent_bytes(tcp.ours.fileno()), "all is acknowledged")
    assert not tcp.connection.is_over()
    assert (tcp.connection.unconfirmed, tcp.connection.unsettled) == (0, 3)
    tcp.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    tcp.peer.close()
    wait_until(tcp.connection.is_over, "the end is seen")
    assert tcp.close() == 3


def test_unread_lines_are_in_doubt_after_a_shutdown_too(tcp: Pair) -> None:
    """Many servers in Python close like this: a FIN, and a reset after it."""
    tcp.connection.send(LINES[:10])
    tcp.read(10)
    tcp.settle()
    tcp.connection.send(LINES[10:40])
    wait_until(lambda: not unsent_bytes(tcp.ours.fileno()), "all is acknowledged")
    tcp.peer.shutdown(socket.SHUT_RDWR)
    tcp.peer.close()
    wait_until(tcp.connection.is_over, "the end is seen")
    assert tcp.close() == 30


def test_acknowledged_lines_settle_after_a_second(tcp: Pair) -> None:
    tcp.connection.send(LINES[:10])
    wait_until(lambda: not unsent_bytes(tcp.ours.fileno()), "all is acknowledged")
    for now, unsettled in ((0.0, 10), (0.9, 10), (1.0, 0)):
        tcp.clock.now = now
        assert not tcp.connection.is_over()
        assert tcp.connection.unsettled == unsettled


def test_lines_settle_while_others_come_all_the_time(tcp: Pair) -> None:
    for step in range(50):
        tcp.clock.now = step / 20
        assert not tcp.connection.is_over()
        tcp.connection.send(LINES[:1])
        wait_until(lambda: not unsent_bytes(tcp.ours.fileno()), "all is acknowledged")
        # The lines of the last second, and of the tenth until the next mark.
        assert tcp.connection.unsettled <= 25


def test_our_close_counts_what_the_peer_never_acknowledged(tcp: Pair) -> None:
    lines = [b"x" * 8_000] * 100
    sent = 0
    while done := tcp.connection.send(lines):
        sent += done
    outstanding = unsent_bytes(tcp.ours.fileno())
    in_doubt = tcp.connection.close(lambda seconds: True)
    assert outstanding // 8_001 <= in_doubt <= outstanding // 8_001 + 1
    data = b""
    while piece := tcp.peer.recv(1 << 20):
        data += piece
    assert data.count(b"\n") == sent


def test_our_fin_is_not_counted_as_a_byte_of_a_line() -> None:
    """With lines of one byte, as many lines are in doubt as bytes are not acknowledged."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        server.bind(("127.0.0.1", 0))
        server.listen()
        ours = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with ours, peer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        ours.settimeout(0.5)
        connection = StreamSocket(ours, lambda line: line + b"\n")
        assert connection.send([b""] * 60_000) < 60_000
        outstanding = unsent_bytes(ours.fileno())
        assert outstanding
        assert connection.close(lambda seconds: True) == outstanding


def test_our_close_waits_for_the_acknowledgement(tcp: Pair) -> None:
    lines = [b"x" * 8_000] * 100
    while tcp.connection.send(lines):
        pass
    waited = 0

    def read_a_while(seconds: float) -> bool:
        nonlocal waited
        waited += 1
        tcp.peer.recv(1 << 20)
        return False

    assert tcp.connection.close(read_a_while) == 0
    assert waited


def test_a_live_unix_peer_may_still_read_what_we_leave(unix: Pair) -> None:
    unix.connection.send(LINES)
    assert unix.close() == 0
    unix.read(100)


def test_the_unconfirmed_lines_are_bounded(unix: Pair) -> None:
    """The peer reads nothing, and nobody looks."""
    unix.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    empty = [b""] * SINK_UNCONFIRMED
    assert unix.connection.send(empty[:-1]) == SINK_UNCONFIRMED - 1
    assert unix.connection.send(empty) == 1
    assert unix.connection.send(empty) == 0
    assert unix.connection.unconfirmed == SINK_UNCONFIRMED


RECEIVER = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    connection, _ = server.accept()
    print(connection.recv(25).decode(), flush=True)
    sys.stdin.readline()
"""


def test_a_killed_receiver_leaves_in_doubt_what_it_had_not_read(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RECEIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        ours = socket.create_connection(("127.0.0.1", int(process.stdout.readline())))
        connection = StreamSocket(ours, lambda line: line + b"\n", Clock())
        connection.send(LINES)
        process.stdout.readline()
        process.kill()
        process.wait()
        wait_until(connection.is_over, "the end is seen")
        assert connection.close(patience()) == 100
