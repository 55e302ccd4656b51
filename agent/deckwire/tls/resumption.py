"""Whether a handshake went on with an older session, as far as its clear text shows."""

from __future__ import annotations

from collections.abc import Callable

from deckwire.tls.messages import ServerHello

_TLS13 = 0x0304


def is_resumed(server: ServerHello, echoed: Callable[[], bool | None]) -> bool | None:
    """None where it does not show: at a HelloRetryRequest, or without the client's session id.

    `echoed` tells whether the server's session id is the client's and not empty; None if the
    client's is not known. `server` may be an equal hello of another connection.
    """
    if server.is_hello_retry_request:
        return None
    if (server.selected_version or server.legacy_version) >= _TLS13:
        return server.has_pre_shared_key
    # Tickets too: a server that takes one echoes the session id sent with it (RFC 5077, 3.4).
    return echoed()
