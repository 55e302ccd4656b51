"""Lines over TCP, framed by octet counting (RFC 6587, 3.4.1)."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.sinks.bytestream import ByteStream
from deckwire.sinks.sink import Sink, endpoint

CONNECT_S = 5.0
STALL_S = 0.5
"""Seconds that one call may wait for a slow receiver before the thread looks around."""

_ACKNOWLEDGE_MS = 30_000


class TcpSink(Sink):
    """Connects when there is something to say and again whenever the connection breaks.

    At most once: what the kernel took is not sent again. A frame that the kernel took only in part
    is sent whole on the next connection; the receiver sees its first part end with the old one.
    """

    scheme = "tcp"

    def __init__(self, host: str, port: int, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"tcp:{endpoint(host, port)}", capacity)
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def _connect(self) -> None:
        if self._socket is not None and is_closed(self._socket):
            self._release()
        if self._socket is None:
            self._socket = socket.create_connection(self._address, CONNECT_S)
            # A receiver that vanished without a word is noticed even while we are idle.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACKNOWLEDGE_MS)
            self._socket.settimeout(STALL_S)
            self._stream = ByteStream(self._socket.send)

    def _deliver(self, lines: Sequence[bytes]) -> int:
        return self._stream.send([b"%d %b" % (len(line), line) for line in lines])

    def _recover(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def is_closed(connection: socket.socket) -> bool:
    """Whether the peer closed a stream: then what is written would vanish without an error.

    Receivers of syslog say nothing; what one does say is thrown away.
    """
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        return not connection.recv(4096)
    except OSError:
        return True
