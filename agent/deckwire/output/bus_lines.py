"""Events as messages of DECNET's bus."""

from __future__ import annotations

from deckwire.bus.messages import envelope, traffic_topic
from deckwire.events.event import Event
from deckwire.output.escape import Escape, text

PUBLISHED = frozenset(
    {"tcp_syn_fingerprint", "tls_session", "tcp_flow_timing", "ssh_client_banner"}
)
"""The events that DECNET's own sniffer publishes, as far as Deckwire has them."""

_NS = 1_000_000_000
# JSON has escapes of its own, so this one only removes what a terminal would obey.
_escape = Escape({"\\": "\\"})


def bus_line(event: Event) -> bytes | None:
    """``TOPIC BODY`` for BusSink; None for a decky whose name cannot be a part of a topic.

    All values are strings, as in a syslog line.
    """
    topic = traffic_topic(event.host)
    if topic is None:
        return None
    payload = {name: _escape(text(value)) for name, value in (*event.fields, *event.stamp)}
    return topic.encode() + b" " + envelope(topic, event.name, event.time_ns / _NS, payload)
