"""Lines over TCP, framed by octet counting (RFC 6587, 3.4.1)."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.endpoint import endpoint_text
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.stream_socket import STALL_S, Connected, StreamSocket

_CONNECT_S = 5.0
"""Seconds that connecting may take."""
_ACKNOWLEDGE_MS = 30_000
"""Milliseconds without an acknowledgement after which the connection counts as broken."""


def connect_tcp(address: tuple[str, int]) -> socket.socket:
    """A connection that breaks when the receiver's host does not answer. Raises OSError."""
    connected = socket.create_connection(address, _CONNECT_S)
    # A receiver that vanished without a word is noticed even while no lines come.
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACKNOWLEDGE_MS)
    return connected


class TcpSink(Sink):
    """Connects when there is a line to send, and again whenever the connection breaks.

    A line arrives at most once. What the kernel took is not sent again; it is in doubt if the
    connection breaks before the peer is sure to have it. A frame that the kernel took only in part
    is sent whole on the next connection. The receiver sees its first part end with the old one.
    """

    scheme = "tcp"

    def __init__(self, host: str, port: int, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"{self.scheme}:{endpoint_text(host, port)}", capacity)
        self._address = (host, port)
        self._socket: StreamSocket | None = None

    def _connect(self) -> None:
        self._look()
        if self._socket is None:
            connected = self._connected()
            connected.settimeout(STALL_S)
            self._socket = StreamSocket(connected, _octet_counted)

    def _connected(self) -> Connected:
        """A new connection to the receiver. Raises OSError."""
        return connect_tcp(self._address)

    def _deliver(self, lines: Sequence[bytes]) -> int:
        return self._socket.send(lines) if self._socket is not None else 0

    def _recover(self, error: OSError) -> None:
        self._release()

    def _look(self) -> None:
        if self._socket is not None and self._socket.is_over():
            self._release()

    def _unsettled_lines(self) -> int:
        return self._socket.unsettled if self._socket is not None else 0

    def _unconfirmed_lines(self) -> int:
        return self._socket.unconfirmed if self._socket is not None else 0

    def _release(self) -> None:
        if self._socket is not None:
            in_doubt = self._socket.close(self._patience())
            self._socket = None
            self._recount("in_doubt", in_doubt)


def _octet_counted(line: bytes) -> bytes:
    return b"%d %b" % (len(line), line)
