"""Lines over TCP, framed by octet counting (RFC 6587, 3.4.1)."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.connection import Connection
from deckwire.output.sinks.sink import Sink, endpoint

CONNECT_S = 5.0
STALL_S = 0.5
"""Seconds that one call may wait for a slow receiver before the thread looks around."""

_ACKNOWLEDGE_MS = 30_000


class TcpSink(Sink):
    """Connects when there is something to say and again whenever the connection breaks.

    At most once: what the kernel took is not sent again, but counted as in doubt if the connection
    breaks before the peer is sure to have it. A frame that the kernel took only in part is sent
    whole on the next connection; the receiver sees its first part end with the old one.
    """

    scheme = "tcp"

    def __init__(self, host: str, port: int, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"tcp:{endpoint(host, port)}", capacity)
        self._address = (host, port)
        self._connection: Connection | None = None

    def _connect(self) -> None:
        self._look()
        if self._connection is None:
            connected = socket.create_connection(self._address, CONNECT_S)
            # A receiver that vanished without a word is noticed even while we are idle.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACKNOWLEDGE_MS)
            connected.settimeout(STALL_S)
            self._connection = Connection(connected, _octet_counted)

    def _deliver(self, lines: Sequence[bytes]) -> int:
        return self._connection.send(lines) if self._connection is not None else 0

    def _recover(self, error: OSError) -> None:
        self._release()

    def _look(self) -> None:
        if self._connection is not None and self._connection.is_over():
            self._release()

    def _unsettled_lines(self) -> int:
        return self._connection.unsettled if self._connection is not None else 0

    def _unconfirmed_lines(self) -> int:
        return self._connection.unconfirmed if self._connection is not None else 0

    def _release(self) -> None:
        if self._connection is not None:
            in_doubt = self._connection.close(self._patience())
            self._connection = None
            self._recount("in_doubt", in_doubt)


def _octet_counted(line: bytes) -> bytes:
    return b"%d %b" % (len(line), line)
