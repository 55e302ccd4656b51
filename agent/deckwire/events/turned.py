"""Events of connections that a decky opened, with the peer as src_ip.

DECNET files every fingerprint in an event under its src_ip, which it takes for the attacker. So the
decky's own fingerprints have other names in these events.
"""

from __future__ import annotations

from deckwire.events.event import Event

_OURS = (
    *("ja3", "ja4", "ja4_r", "ja4_o", "ja4_ro", "raw_ciphers", "raw_extensions", "resumption"),
    *("ja4l_rtt_ms", "ja4l_client_ttl", "ja4l_c", "tool", "tool_evidence", "retransmits"),
)
"""Fields about the client, which is the decky here."""
NAMES = {name: f"decky_{name}" for name in _OURS} | {"retransmits_server": "retransmits"}
"""New names. `retransmits` counts those of src_ip, which is the server here."""


def turned(event: Event) -> Event:
    """The same event, whose context has the peer as source, with the decky's fields renamed."""
    fields = tuple((NAMES.get(name, name), value) for name, value in event.fields)
    return event._replace(parts=fields, turned=True)
