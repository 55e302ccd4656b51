"""The fields that tell a connection's round trips, in the events that carry them."""

from __future__ import annotations

from deckwire.events.place import Fields
from deckwire.fingerprints import ja4plus
from deckwire.handshake import Handshake


def kept_fields(handshake: Handshake) -> Fields:
    """ja4l_rtt_ms and ja4l_client_ttl, where the handshake was seen."""
    if handshake.syn is None or handshake.synack is None:
        return []
    rtt_ms = max(handshake.synack.time_ns - handshake.syn.time_ns, 0) / 1e6
    return [
        ("ja4l_rtt_ms", round(rtt_ms, 2)),
        ("ja4l_client_ttl", handshake.syn.ttl),
    ]


def rtt_fields(client_us: int | None, server_us: int | None) -> Fields:
    """rtt_client_us and rtt_server_us, each where it is known."""
    fields: Fields = []
    if client_us is not None:
        fields.append(("rtt_client_us", client_us))
    if server_us is not None:
        fields.append(("rtt_server_us", server_us))
    return fields


def ja4l_fields(handshake: Handshake) -> Fields:
    """ja4l_c and ja4l_s, each where it is known (a JA4+ method)."""
    fields: Fields = []
    if handshake.rtt_client_us is not None and handshake.syn is not None:
        fields.append(("ja4l_c", ja4plus.ja4l(handshake.rtt_client_us, handshake.syn.ttl)))
    if handshake.rtt_server_us is not None and handshake.synack is not None:
        fields.append(("ja4l_s", ja4plus.ja4l(handshake.rtt_server_us, handshake.synack.ttl)))
    return fields
