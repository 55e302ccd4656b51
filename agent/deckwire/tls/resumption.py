"""Whether a handshake resumed an older session, as far as its clear text shows."""

from __future__ import annotations

from collections.abc import Callable

from deckwire.tls.code_points import TLS13
from deckwire.tls.messages import ServerHello


def is_resumed(server: ServerHello, echoed: Callable[[], bool | None]) -> bool | None:
    """Return whether the session is resumed; None if that is not known.

    A HelloRetryRequest does not show it. Before TLS 1.3 it shows only if the client's session id
    is known: `echoed` returns whether the server sent back that id and it is not empty, or None.
    `server` may be an equal hello of another connection.
    """
    if server.is_hello_retry_request:
        return None
    if (server.selected_version or server.legacy_version) >= TLS13:
        return server.has_pre_shared_key
    # A server that accepts a ticket also echoes the session id sent with it (RFC 5077, 3.4).
    return echoed()
