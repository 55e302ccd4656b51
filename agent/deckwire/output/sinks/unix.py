"""Lines to a Unix socket such as /dev/log."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.connection import Connection
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.tcp import STALL_S
from deckwire.output.sinks.unix_datagrams import UnixDatagrams


class UnixSink(Sink):
    """One line a datagram; where the socket is a stream, as syslog(3) allows, one line a line.

    Connects when there is something to say and again when the receiver has been restarted. What a
    receiver that went away had not read is in doubt.
    """

    scheme = "unix"

    def __init__(self, path: str, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"unix:{path}", capacity)
        self._path = path
        self._receiver: Connection | UnixDatagrams | None = None

    def _connect(self) -> None:
        # The next datagram finds out by itself.
        if isinstance(self._receiver, Connection):
            self._look()
        if self._receiver is None:
            self._receiver = _connected(self._path)

    def _deliver(self, lines: Sequence[bytes]) -> int:
        return self._receiver.send(lines) if self._receiver is not None else 0

    def _recover(self, error: OSError) -> None:
        self._release()

    def _look(self) -> None:
        if self._receiver is not None and self._receiver.is_over():
            self._release()

    def _unsettled_lines(self) -> int:
        return self._receiver.unsettled if self._receiver is not None else 0

    def _release(self) -> None:
        if self._receiver is not None:
            in_doubt = self._receiver.close(self._patience())
            self._receiver = None
            self._recount("in_doubt", in_doubt)


def _connected(path: str) -> Connection | UnixDatagrams:
    try:
        return UnixDatagrams(_connected_as(socket.SOCK_DGRAM, path), path)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    return Connection(_connected_as(socket.SOCK_STREAM, path), lambda line: line + b"\n")


def _connected_as(kind: socket.SocketKind, path: str) -> socket.socket:
    unix = socket.socket(socket.AF_UNIX, kind)
    unix.settimeout(STALL_S)
    try:
        unix.connect(path)
    except OSError:
        unix.close()
        raise
    return unix
