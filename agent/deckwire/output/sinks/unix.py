"""Lines to a Unix socket such as /dev/log."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.stream_socket import STALL_S, StreamSocket
from deckwire.output.sinks.unix_datagram_socket import UnixDatagramSocket


class UnixSink(Sink):
    """Sends one line a datagram; to a stream socket, as syslog(3) allows one, lines with newlines.

    It connects when there is a line to send, and again when the receiver was restarted. Lines that
    a receiver had not read when it went away are in doubt.
    """

    scheme = "unix"

    def __init__(self, path: str, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"{self.scheme}:{path}", capacity)
        self._path = path
        self._socket: StreamSocket | UnixDatagramSocket | None = None

    def _connect(self) -> None:
        # A datagram socket needs no look: the next datagram finds out.
        if isinstance(self._socket, StreamSocket):
            self._look()
        if self._socket is None:
            self._socket = _connected(self._path)

    def _deliver(self, lines: Sequence[bytes]) -> int:
        return self._socket.send(lines) if self._socket is not None else 0

    def _recover(self, error: OSError) -> None:
        self._release()

    def _look(self) -> None:
        if self._socket is not None and self._socket.is_over():
            self._release()

    def _unsettled_lines(self) -> int:
        return self._socket.unsettled if self._socket is not None else 0

    def _release(self) -> None:
        if self._socket is not None:
            in_doubt = self._socket.close(self._patience())
            self._socket = None
            self._recount("in_doubt", in_doubt)


def _connected(path: str) -> StreamSocket | UnixDatagramSocket:
    try:
        return UnixDatagramSocket(_connected_as(socket.SOCK_DGRAM, path), path)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    return StreamSocket(_connected_as(socket.SOCK_STREAM, path), lambda line: line + b"\n")


def _connected_as(kind: socket.SocketKind, path: str) -> socket.socket:
    unix = socket.socket(socket.AF_UNIX, kind)
    unix.settimeout(STALL_S)
    try:
        unix.connect(path)
    except OSError:
        unix.close()
        raise
    return unix
