"""The socket outputs against real receivers: slow, absent, restarted."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.sink import Sink, SinkCounters
from deckwire.output.sinks.tcp import TcpSink
from deckwire.output.sinks.udp import UdpSink
from deckwire.output.sinks.unix import UnixSink
from tests.support.rsyslog_server import free_port, wait_until

LINES = [b"<134>1 line %d" % number for number in range(50)]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_SECONDS)
        yield server


def tcp_sink(server: socket.socket, capacity: int = 1000) -> TcpSink:
    return TcpSink(*server.getsockname(), capacity=capacity)


def conserved(counters: SinkCounters) -> bool:
    lost = sum(counters.dropped.values())
    return counters.offered == counters.written + counters.queued + lost


def read_all(connection: socket.socket) -> bytes:
    connection.settimeout(PATIENCE_SECONDS)
    data = b""
    while chunk := connection.recv(1 << 16):
        data += chunk
    return data


def unframe(data: bytes) -> list[bytes]:
    """The octet-counted frames; a last one that is not whole is left out (RFC 6587, 3.4.1)."""
    frames = []
    while data:
        length, space, data = data.partition(b" ")
        assert length.isdigit(), length
        if not space or len(data) < int(length):
            break
        frames.append(data[: int(length)])
        data = data[int(length) :]
    return frames


def fill(sink: Sink, line: bytes) -> int:
    """Offer until the sink drops; how many were offered."""
    offered = 1
    while sink.offer(line):
        offered += 1
    return offered


def test_tcp_counts_octets(listener: socket.socket) -> None:
    sink = tcp_sink(listener)
    sink.start()
    assert sink.offer(b"a")
    assert sink.offer("zwölf".encode())
    connection, _ = listener.accept()
    with connection:
        sink.close(PATIENCE_SECONDS)
        assert read_all(connection) == "1 a6 zwölf".encode()


def test_tcp_to_a_receiver_that_never_reads_loses_counted_lines(listener: socket.socket) -> None:
    sink = tcp_sink(listener, 20)
    sink.start()
    offered = fill(sink, b"x" * 8000)
    counters = sink.counters()
    assert counters.dropped == {"queue_full": 1}
    assert counters.offered == offered
    assert conserved(counters)
    sink.close(0)
    counters = sink.counters()
    assert counters.queued == 0
    assert conserved(counters)


def test_tcp_resends_a_frame_cut_by_the_end_of_a_connection(listener: socket.socket) -> None:
    sink = tcp_sink(listener)
    lines = [b"%04d" % number + b"x" * 7996 for number in range(1000)]
    sink.start()
    for line in lines:
        assert sink.offer(line)
    first, _ = listener.accept()
    with first:
        first.settimeout(PATIENCE_SECONDS)
        begun = first.recv(20_000)
    # Closed with unread data: a reset, somewhere in a frame.
    second, _ = listener.accept()
    with second:
        reader: list[bytes] = []
        thread = threading.Thread(target=lambda: reader.append(read_all(second)), daemon=True)
        thread.start()
        sink.close(PATIENCE_SECONDS)
        thread.join(PATIENCE_SECONDS)
    before, after = unframe(begun), unframe(reader[0])
    assert before == lines[: len(before)]
    assert after == lines[len(lines) - len(after) :]
    assert len(after) > 0
    counters = sink.counters()
    assert set(counters.dropped) == {"in_doubt"}
    # All that went on the first connection is in doubt, though some was received: none is lost
    # without being counted.
    assert counters.dropped["in_doubt"] == len(lines) - len(after)
    assert counters.written == len(after)


def test_tcp_notices_a_closed_connection_before_writing(listener: socket.socket) -> None:
    sink = tcp_sink(listener)
    sink.start()
    for line in LINES[:5]:
        assert sink.offer(line)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_SECONDS)
            assert unframe(connection.recv(1000)) == [line]
    sink.close(PATIENCE_SECONDS)
    assert sink.counters().written == 5


def test_tcp_reopen_makes_a_new_connection(listener: socket.socket) -> None:
    sink = tcp_sink(listener)
    sink.start()
    sink.offer(b"one")
    first, _ = listener.accept()
    with first:
        wait_until(lambda: sink.counters().written == 1, "the first line is written")
        sink.reopen()
        sink.offer(b"two")
        assert unframe(read_all(first)) == [b"one"]
    second, _ = listener.accept()
    with second:
        sink.close(PATIENCE_SECONDS)
        assert unframe(read_all(second)) == [b"two"]


def test_an_absent_tcp_receiver_costs_what_the_queue_cannot_hold() -> None:
    sink = TcpSink("127.0.0.1", free_port(), capacity=10)
    sink.start()
    for line in LINES[:10]:
        assert sink.offer(line)
    wait_until(lambda: sink.counters().errors, "it tried to connect")
    assert [sink.offer(line) for line in LINES[10:20]] == [False] * 10
    sink.close(0)
    counters = sink.counters()
    assert counters.dropped == {"connect_error": 10, "unsent": 10}
    assert "Connection refused" in counters.last_error


def test_a_name_that_does_not_exist_is_a_connect_error() -> None:
    for sink in (TcpSink("host.invalid", 514), UdpSink("host.invalid", 514)):
        sink.start()
        sink.offer(b"x")
        wait_until(lambda one=sink: one.counters().errors, "the look-up failed")
        sink.close(0)
        assert set(sink.counters().errors) == {"connect_error"}


@pytest.mark.parametrize(
    ("family", "address", "name"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "127.0.0.1", "localhost"),
        (socket.AF_INET6, "::1", "::1"),
    ],
)
def test_udp_sends_one_line_a_datagram(family: int, address: str, name: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        try:
            receiver.bind((address, 0))
        except OSError:
            pytest.skip(f"no {address} here")
        receiver.settimeout(PATIENCE_SECONDS)
        sink = UdpSink(name, receiver.getsockname()[1])
        sink.start()
        sink.offer(b"probe")
        # localhost may mean ::1 first; the refusal there leads to the next address.
        wait_until(lambda: not sink.counters().queued, "the probe is sent")
        while True:
            sink.offer(b"more")
            receiver.settimeout(0.2)
            try:
                assert receiver.recv(100) in (b"probe", b"more")
            except TimeoutError:
                continue
            break
        receiver.settimeout(PATIENCE_SECONDS)
        for line in LINES[:20]:
            sink.offer(line)
        got = [receiver.recv(100)]
        while got[-1] != LINES[19]:
            got.append(receiver.recv(100))
        assert [line for line in got if line not in (b"probe", b"more")] == LINES[:20]
        sink.close(PATIENCE_SECONDS)
        assert conserved(sink.counters())


def test_udp_drops_what_no_datagram_holds() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(PATIENCE_SECONDS)
        sink = UdpSink(*receiver.getsockname())
        for line in (b"one", b"x" * 70_000, b"two"):
            sink.offer(line)
        sink.start()
        sink.close(PATIENCE_SECONDS)
        assert [receiver.recv(100), receiver.recv(100)] == [b"one", b"two"]
        assert sink.counters() == SinkCounters(3, 2, 0, {"too_large": 1}, {}, "")


def test_unix_datagrams_wait_for_a_slow_receiver(short_path: Path) -> None:
    path = str(short_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(PATIENCE_SECONDS)
        sink = UnixSink(path, capacity=20)
        sink.start()
        taken = 0
        while sink.offer(b"%d" % taken):
            taken += 1
        assert sink.counters().dropped == {"queue_full": 1}
        assert conserved(sink.counters())
        assert [int(receiver.recv(100)) for _ in range(taken)] == list(range(taken))
        sink.close(PATIENCE_SECONDS)
        assert sink.counters().written == taken


def test_unix_falls_back_to_a_stream_of_lines(short_path: Path) -> None:
    path = str(short_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        server.settimeout(PATIENCE_SECONDS)
        sink = UnixSink(path)
        sink.start()
        for line in LINES:
            assert sink.offer(line)
        connection, _ = server.accept()
        with connection:
            sink.close(PATIENCE_SECONDS)
            assert read_all(connection).split(b"\n") == [*LINES, b""]


def test_an_absent_unix_socket_costs_what_the_queue_cannot_hold(short_path: Path) -> None:
    sink = UnixSink(str(short_path / "absent"), capacity=3)
    sink.start()
    for line in LINES[:3]:
        assert sink.offer(line)
    wait_until(lambda: sink.counters().errors, "it tried to connect")
    assert not sink.offer(LINES[3])
    sink.close(0)
    assert sink.counters().dropped == {"connect_error": 1, "unsent": 3}


class Breaker:
    """Accepts, reads some lines, ends the connection in one way; until `finish`."""

    def __init__(self, server: socket.socket, how: str) -> None:
        self.lines: list[bytes] = []
        self.ended = 0
        self._server = server
        self._how = how
        self._patient = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def finish(self) -> None:
        """Read every connection to its end from now on."""
        self._patient.set()

    def join(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE_SECONDS)

    def _serve(self) -> None:
        self._server.settimeout(0.1)
        # Once more after the end: a connection may wait to be accepted.
        while True:
            last = self._over.is_set()
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                if last:
                    return
                continue
            connection.settimeout(PATIENCE_SECONDS)
            self._read(connection)
            self._end(connection)
            self.ended += 1

    def _read(self, connection: socket.socket) -> None:
        data = b""
        while piece := connection.recv(1_000):
            data += piece
            if not self._patient.is_set() and len(data) > 2_000:
                break
        # The last part is no whole line.
        self.lines += [line[-5:] for line in data.split(b"]")[:-1]]

    def _end(self, connection: socket.socket) -> None:
        if self._how == "reset":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif self._how == "shutdown":
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@pytest.mark.parametrize("how", ["close", "reset", "shutdown"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_however_connections_end_each_line_is_received_or_counted(
    short_path: Path, kind: str, how: str
) -> None:
    if kind == "tcp":
        server = socket.create_server(("127.0.0.1", 0))
        sink: Sink = TcpSink(*server.getsockname())
    else:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(short_path / "log"))
        server.listen()
        sink = UnixSink(str(short_path / "log"))
    with server:
        breaker = Breaker(server, how)
        sink.start()
        offered = 0
        while breaker.ended < 10:
            for _ in range(50):
                assert sink.offer(b"a line that ends in %05d]" % offered)
                offered += 1
            wait_until(lambda: not sink.counters().queued, "the queue is empty")
        breaker.finish()
        sink.offer(b"a line that ends in %05d]" % offered)
        offered += 1
        sink.close(PATIENCE_SECONDS)
        breaker.join()
    received = [int(line) for line in breaker.lines]
    assert received == sorted(set(received))
    counters = sink.counters()
    in_doubt = counters.dropped.get("in_doubt", 0)
    assert set(counters.dropped) == {"in_doubt"}
    assert counters.offered == offered == counters.written + in_doubt
    assert counters.written <= len(received) <= offered


def test_what_is_not_acknowledged_when_closing_is_over_is_counted(
    listener: socket.socket,
) -> None:
    sink = tcp_sink(listener)
    sink.start()
    for _ in range(1_000):
        assert sink.offer(b"x" * 8_000)
    connection, _ = listener.accept()
    wait_until(lambda: sink.counters().written, "the buffers take some")
    with connection:
        sink.close(1)
        counters = sink.counters()
        assert conserved(counters)
        assert counters.queued == 0
        assert set(counters.dropped) == {"unsent", "in_doubt"}
        wait_until(lambda: not sink._thread.is_alive(), "the thread ends")
        assert sink.counters() == counters
        received = unframe(read_all(connection))
    # Some lines in doubt arrived after all.
    assert counters.written <= len(received) <= 1_000 - counters.dropped["unsent"] + 1


def test_lines_in_doubt_are_counted_while_nothing_else_is_sent(listener: socket.socket) -> None:
    sink = tcp_sink(listener)
    sink.start()
    for line in LINES:
        assert sink.offer(line)
    connection, _ = listener.accept()
    wait_until(lambda: sink.counters().written == 50, "all are written")
    connection.close()
    wait_until(lambda: sink.counters().dropped == {"in_doubt": 50}, "they are counted")
    assert sink.counters().written == 0
    sink.close(PATIENCE_SECONDS)


def test_unix_drops_what_no_datagram_holds(short_path: Path) -> None:
    path = str(short_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(PATIENCE_SECONDS)
        sink = UnixSink(path)
        for line in (b"one", b"x" * 1_000_000, b"two"):
            sink.offer(line)
        sink.start()
        sink.close(PATIENCE_SECONDS)
        assert [receiver.recv(100), receiver.recv(100)] == [b"one", b"two"]
        assert sink.counters() == SinkCounters(3, 2, 0, {"too_large": 1}, {}, "")


def test_unix_datagrams_that_a_receiver_left_unread_are_counted(short_path: Path) -> None:
    path = str(short_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        sink = UnixSink(path)
        for line in LINES[:5]:
            assert sink.offer(line)
        sink.start()
        wait_until(lambda: sink.counters().written == 5, "all are in its buffer")
    wait_until(lambda: sink.counters().dropped == {"in_doubt": 5}, "they are counted")
    sink.close(PATIENCE_SECONDS)
    assert sink.counters().written == 0
