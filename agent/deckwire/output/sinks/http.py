"""Acknowledged lines over HTTP or HTTPS."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.endpoint import endpoint_text
from deckwire.output.sinks.spooled import SpooledSink, SpoolFolder
from deckwire.output.sinks.tls_client import TlsClient
from deckwire.output.sinks.token_file import TokenFile
from deckwire.output.spool.http import HttpReceiver

_ANSWER_S = 30.0
"""Seconds that connecting, and each part of an answer, may take."""


@dataclass(frozen=True, slots=True)
class Url:
    """Where an HTTP output posts to."""

    host: str
    port: int
    target: str
    """The path, with its query: ``/events?from=one``."""


class HttpSink(SpooledSink):
    """Lines count as delivered when the receiver answers their batch with 2xx."""

    scheme = "http"

    def __init__(
        self,
        url: Url,
        folder: SpoolFolder,
        tls: TlsClient | None = None,
        token: TokenFile | None = None,
        capacity: int = SINK_QUEUE,
    ) -> None:
        self._url = url
        self._tls = tls
        self._token = token
        scheme = self.scheme if tls is None else "https"
        name = f"{scheme}://{endpoint_text(url.host, url.port)}{url.target}"
        receiver = HttpReceiver(self._connection, url.target, self._credentials)
        super().__init__(name, folder, receiver, capacity)

    def _credentials(self) -> dict[str, str]:
        """The headers by which the receiver knows us, as the files say now."""
        if self._token is None:
            return {}
        return {"Authorization": f"Bearer {self._token.read()}"}

    def _check_files(self) -> None:
        self._credentials()
        if self._tls is not None:
            self._tls.read_changed_files()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._url.host, self._url.port, _ANSWER_S)
        return _Https(self._url, self._tls)


class _Https(http.client.HTTPSConnection):
    """Verifies the name that was set, which need not be the host of the URL."""

    def __init__(self, url: Url, tls: TlsClient) -> None:
        super().__init__(url.host, url.port, timeout=_ANSWER_S, context=tls.context)
        self._tls = tls

    def connect(self) -> None:
        """Connect and shake hands; raises OSError."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.handshake(self.sock)
