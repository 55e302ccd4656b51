"""Lines to a Unix socket such as /dev/log."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.sinks.bytestream import LineStream
from deckwire.sinks.datagrams import Datagrams
from deckwire.sinks.sink import Sink
from deckwire.sinks.tcp import STALL_S, is_closed


class UnixSink(Sink):
    """One line a datagram; where the socket is a stream, as syslog(3) allows, one line a line.

    Connects when there is something to say and again when the receiver has been restarted.
    """

    scheme = "unix"

    def __init__(self, path: str, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"unix:{path}", capacity)
        self._path = path
        self._socket: socket.socket | None = None
        self._send: Callable[[Sequence[bytes]], int]

    def _connect(self) -> None:
        if self._socket is not None and self._socket.type == socket.SOCK_STREAM:
            if not is_closed(self._socket):
                return
            self._release()
        if self._socket is None:
            self._socket = _connected(self._path)
            if self._socket.type == socket.SOCK_DGRAM:
                self._send = Datagrams(self._socket.send).send
            else:
                self._send = LineStream(self._socket.send).send

    def _deliver(self, lines: Sequence[bytes]) -> int:
        return self._send(lines)

    def _recover(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connected(path: str) -> socket.socket:
    try:
        return _connected_as(socket.SOCK_DGRAM, path)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    return _connected_as(socket.SOCK_STREAM, path)


def _connected_as(kind: socket.SocketKind, path: str) -> socket.socket:
    unix = socket.socket(socket.AF_UNIX, kind)
    unix.settimeout(STALL_S)
    try:
        unix.connect(path)
    except OSError:
        unix.close()
        raise
    return unix
