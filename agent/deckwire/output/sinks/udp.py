"""One line a UDP datagram (RFC 5426)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.datagram_writer import DatagramWriter
from deckwire.output.sinks.endpoint import endpoint_text
from deckwire.output.sinks.sink import Sink


class UdpSink(Sink):
    """Looks its receiver's name up at the start, on `reopen` and after every error.

    UDP promises nothing: a line counts as written when the kernel took it. If the receiver's host
    answers that nobody listens, one line counts as refused, sending pauses, and the name's next
    address is tried.
    """

    scheme = "udp"

    def __init__(self, host: str, port: int, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"{self.scheme}:{endpoint_text(host, port)}", capacity)
        self._address = (host, port)
        self._turn = 0
        """Which of the name's addresses is used."""
        self._socket: socket.socket | None = None

    def _connect(self) -> None:
        if self._socket is not None:
            return
        found = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[self._turn % len(found)]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.connect(address)
        self._datagrams = DatagramWriter(self._socket.send)

    def _deliver(self, lines: Sequence[bytes]) -> int:
        try:
            return self._datagrams.send(lines)
        except ConnectionRefusedError:
            # It refers to a datagram sent before; this call sent nothing.
            self._recount("refused", 1)
            raise

    def _recover(self, error: OSError) -> None:
        self._turn += 1
        self._release()

    def _release(self) -> None:
        if self._socket is None:
            return
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED:
            self._recount("refused", 1)
        self._socket.close()
        self._socket = None
