"""Lines over TLS, framed by octet counting (RFC 5425)."""

from __future__ import annotations

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.tcp import TcpSink, connect_tcp
from deckwire.output.sinks.tls_client import TlsClient, TlsSocket


class TlsSink(TcpSink):
    """A TcpSink whose connections are encrypted. The same lines are in doubt when one ends."""

    scheme = "tls"
    remedy = "start the receiver, or correct the output or the certificates"

    def __init__(self, host: str, port: int, tls: TlsClient, capacity: int = SINK_QUEUE) -> None:
        super().__init__(host, port, capacity)
        self._tls = tls

    def _reopen(self) -> None:
        # While a file is wrong, the connection made with the one before is better than none.
        self._tls.read_changed_files()
        super()._reopen()

    def _connected(self) -> TlsSocket:
        return self._tls.wrap(connect_tcp(self._address))
