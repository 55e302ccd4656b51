"""What the kernel reports about bytes that nobody has read."""

from __future__ import annotations

import os
import socket

from deckwire.output.sinks.kernel_buffer import unread_bytes, unsent_bytes
from tests.support.rsyslog_server import wait_until


def test_acknowledged_bytes_of_tcp_are_not_unsent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    with sender, receiver:
        sender.settimeout(0.2)
        assert unsent_bytes(sender.fileno()) == 0
        sent = 0
        while True:
            try:
                sent += sender.send(bytes(100_000))
            except TimeoutError:
                break
        assert 0 < unsent_bytes(sender.fileno()) < sent
        while sent:
            sent -= len(receiver.recv(1 << 20))
        wait_until(lambda: not unsent_bytes(sender.fileno()), "all is acknowledged")


def test_at_least_the_unread_bytes_of_a_unix_socket_are_unsent() -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        sender, receiver = socket.socketpair(socket.AF_UNIX, kind)
        with sender, receiver:
            sender.send(bytes(700))
            assert unsent_bytes(sender.fileno()) >= 700
            receiver.recv(700)
            assert unsent_bytes(sender.fileno()) == 0


def test_unread_bytes_of_a_pipe_are_counted_after_its_reader_has_gone_too() -> None:
    reader, writer = os.pipe()
    os.write(writer, bytes(500))
    os.read(reader, 100)
    assert unread_bytes(writer) == 400
    os.close(reader)
    assert unread_bytes(writer) == 400
    os.close(writer)
