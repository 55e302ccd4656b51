"""Batches to a real HTTP server, and what becomes of each answer."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

import pytest

from deckwire.output.spool.http import HttpReceiver
from deckwire.output.spool.receiver import BusyError, RefusedError
from deckwire.output.spool.spool import SpooledLine

LINES = [SpooledLine(number, b'{"n": %d}' % number) for number in range(3, 9)]


class Server(ThreadingHTTPServer):
    """Answers as arranged, and keeps the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, dict[str, str]] = (200, {})
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        self.connections += 1
        connection, address = super().get_request()
        return connection, address


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        status, headers = self.server.answer
        self.send_response(status)
        for name, value in ({"Content-Length": "2"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def connected() -> Iterator[tuple[HttpReceiver, socket.socket]]:
    """A receiver that is connected, and the other end, which is no HTTP server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        receiver = HttpReceiver(
            lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=20), "/", dict
        )
        receiver.connect()
        peer, _ = listener.accept()
        with peer:
            yield receiver, peer


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def receiver(server: Server) -> Iterator[HttpReceiver]:
    port = server.server_address[1]
    made = HttpReceiver(
        lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=20),
        "/events?from=deckwire",
        lambda: {"Authorization": "Bearer secret"},
    )
    yield made
    made.close()


def test_a_batch_is_gzipped_lines_and_2xx_acknowledges_it(
    server: Server, receiver: HttpReceiver
) -> None:
    for status in (200, 202, 204):
        server.answer = (status, {"Content-Length": "0"} if status == 204 else {})
        receiver.connect()
        receiver.send(LINES)
        assert receiver.acknowledged(0) == 8
        assert receiver.acknowledged(0) == 0
        if status == 204:
            receiver.close()
    path, headers, body = server.requests[0]
    assert path == "/events?from=deckwire"
    assert headers["Content-Type"] == "application/x-ndjson"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Authorization"] == "Bearer secret"
    assert gzip.decompress(body) == b"".join(line.text + b"\n" for line in LINES)
    assert server.connections == 1


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refused_batch_is_not_sent_again(
    server: Server, receiver: HttpReceiver, status: int
) -> None:
    server.answer = (status, {})
    receiver.connect()
    receiver.send(LINES)
    with pytest.raises(RefusedError, match=f"answers {status} ") as caught:
        receiver.acknowledged(0)
    assert caught.value.through == 8
    server.answer = (200, {})
    receiver.send(LINES)
    assert receiver.acknowledged(0) == 8


@pytest.mark.parametrize(
    ("status", "retry_after", "low", "high"),
    [
        (429, "17", 17, 17),
        (503, "0", 0, 0),
        (500, None, None, None),
        (502, "soon", None, None),
        (503, "-5", None, None),
        (503, "9" * 400, 999_999_999, 999_999_999),
        (503, "date", 50, 100),
        (503, "Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
    ],
)
def test_a_busy_receiver_says_how_long(
    server: Server,
    receiver: HttpReceiver,
    status: int,
    retry_after: str | None,
    low: float | None,
    high: float | None,
) -> None:
    value = formatdate(time() + 100, usegmt=True) if retry_after == "date" else retry_after
    server.answer = (status, {} if value is None else {"Retry-After": value})
    receiver.connect()
    with pytest.raises(BusyError, match=f"answers {status} ") as caught:
        receiver.send(LINES)
    seconds = caught.value.seconds
    if low is None or high is None or seconds is None:
        assert seconds is low is high is None
    else:
        assert low <= seconds <= high


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 407, 499])
def test_other_answers_are_failures_and_the_lines_wait(
    server: Server, receiver: HttpReceiver, status: int
) -> None:
    server.answer = (status, {})
    receiver.connect()
    with pytest.raises(OSError, match=f"answers {status}"):
        receiver.send(LINES)
    assert receiver.acknowledged(0) == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    ],
)
def test_what_is_no_http_is_a_failure(answer: bytes) -> None:
    with connected() as (receiver, peer):
        peer.sendall(answer)
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match=r"."):
            receiver.send(LINES)
        receiver.close()


def test_an_endless_answer_ends_the_connection() -> None:
    with connected() as (receiver, peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000)
        receiver.send(LINES)
        assert receiver.acknowledged(0) == 8
        assert receiver._connection is None
