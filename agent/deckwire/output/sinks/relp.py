"""Acknowledged lines over RELP, with or without TLS."""

from __future__ import annotations

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.endpoint import endpoint_text
from deckwire.output.sinks.spooled import SpooledSink, SpoolFolder
from deckwire.output.sinks.tcp import connect_tcp
from deckwire.output.sinks.tls_client import TlsClient
from deckwire.output.spool.relp import RelpReceiver, RelpSocket


class RelpSink(SpooledSink):
    """Lines count as delivered when the receiver, such as rsyslog's imrelp, acknowledges them.

    The receiver decides what that means: rsyslog acknowledges a line when it is in its queue.
    """

    scheme = "relp"

    def __init__(
        self,
        host: str,
        port: int,
        folder: SpoolFolder,
        tls: TlsClient | None = None,
        capacity: int = SINK_QUEUE,
    ) -> None:
        self._address = (host, port)
        self._tls = tls
        name = f"{self.scheme}:{endpoint_text(host, port)}"
        super().__init__(name, folder, RelpReceiver(self._connected), capacity)

    def _check_files(self) -> None:
        if self._tls is not None:
            self._tls.read_changed_files()

    def _connected(self) -> RelpSocket:
        plain = connect_tcp(self._address)
        return plain if self._tls is None else self._tls.wrap(plain)
