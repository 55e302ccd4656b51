"""Whether a handshake went on with an older session, as far as its clear text shows."""

from __future__ import annotations

from deckwire.tls.messages import ServerHello

_TLS13 = 0x0304


def is_resumed(
    server: ServerHello, server_session_id: bytes, client_session_id: bytes | None
) -> bool | None:
    """None where it does not show: at a HelloRetryRequest, or without the client's session id.

    The session ids are given apart because `server` may be an equal hello of another connection.
    """
    if server.is_hello_retry_request:
        return None
    if (server.selected_version or server.legacy_version) >= _TLS13:
        return server.has_pre_shared_key
    if client_session_id is None:
        return None
    # Tickets too: a server that takes one echoes the session id sent with it (RFC 5077, 3.4).
    return bool(client_session_id) and server_session_id == client_session_id
