"""Events in which fingerprints of the decky itself have names of their own.

DECNET files every fingerprint in an event under its src_ip, which it takes for the attacker. A
fingerprint of the decky has another name wherever the plain one would be filed under the peer.
"""

from __future__ import annotations

from deckwire.events.event import Event

_OPENER = ("ja4l_rtt_ms", "ja4l_client_ttl", "ja4l_c", "tool", "tool_evidence", "retransmits")
"""Fields about the end that opened the connection."""
_TLS_CLIENT = (
    *("ja3", "ja4", "ja4_stable", "ja4_r", "ja4_o", "ja4_ro"),
    *("raw_ciphers", "raw_extensions", "resumption"),
)
"""Fields about the end that sent the ClientHello."""
_HTTP_CLIENT = ("user_agent", "header_order", "ja4h")
"""Fields about the end that sent a request of HTTP."""
_HTTP_SERVER = ("server",)
"""The same of the end that answered it."""
_TLS_SERVER = ("ja3s", "ja4s", "ja4s_r", "ja3s_after_retry", "ja4s_after_retry")
"""Fields about the end that answered it."""


def _decky(*names: str) -> dict[str, str]:
    return {name: f"decky_{name}" for name in names}


# `retransmits` counts those of src_ip, which is the server in an outbound connection.
_OPENED = _decky(*_OPENER) | {"retransmits_server": "retransmits"}
RENAMED = {
    (True, False): _OPENED | _decky(*_TLS_CLIENT, *_HTTP_CLIENT),
    (True, True): _OPENED | _decky(*_TLS_SERVER, *_HTTP_SERVER),
    (False, True): _decky(*_TLS_CLIENT, *_HTTP_CLIENT),
}
"""New names, by whether the decky opened the connection, and whether the client of TLS or HTTP
did not.

In the fourth case, the usual one, the decky is the server of both, and no name changes.
"""
NAMES = _OPENED | _decky(*_TLS_CLIENT, *_TLS_SERVER, *_HTTP_CLIENT, *_HTTP_SERVER)
"""The new names of all cases."""


def turned(event: Event, *, outbound: bool, is_reversed: bool) -> Event:
    """The same event with the decky's fields renamed.

    `outbound` says that the decky opened the connection, and the peer is its source all the same.
    `is_reversed` says that the client of TLS or HTTP did not open it.
    """
    names = RENAMED[outbound, is_reversed]
    fields = tuple((names.get(name, name), value) for name, value in event.fields)
    return event._replace(parts=fields, turned=outbound)
