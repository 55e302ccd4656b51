"""decky_initiated: a decky opened a connection or sent a datagram, as no decoy does by itself."""

from __future__ import annotations

from deckwire.abi.begun import Begun
from deckwire.events.context import Context, Parts
from deckwire.events.event import WARNING, Event, Headline
from deckwire.events.stack import Stack
from deckwire.events.syn import link_fields
from deckwire.tcp.addresses import MAPPED_PREFIX
from deckwire.tcp.syn_packet import Link, SynPacket

_OF_STACK = (*("ttl", "ja4t", "p0f_sig", "os", "os_class", "tool", "tool_evidence", "ip_version"),)
"""Fields of the SYN that say what sent it."""
_TRANSPORTS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
TRANSPORTS = tuple(_TRANSPORTS.values())
"""Values of the field `transport`."""
_MAC_BITS = 48


def headline(context: Context, time_ns: int, decky: str) -> Headline:
    """Everything that deduplication needs of the event. `decky` opened the connection.

    In `context` the decky is the source.
    """
    return Headline(
        "decky_initiated",
        time_ns,
        decky,
        context.source,
        f"{context.destination}|{context.ends.server_port}",
        WARNING,
        context.service,
    )


def initiated_event(
    headline: Headline,
    context: Context,
    *,
    peer: str | None,
    syn: SynPacket | None,
    stack: Stack | None,
) -> Event:
    """Make the event. `peer` is the decky that was addressed, if it was one.

    `syn` and `stack` are None if the SYN or its options were not seen.
    """
    parts: Parts = [context.addresses()]
    if peer is not None:
        parts.append(("dst_decky", peer))
    parts.append(("transport", "tcp"))
    if stack is not None:
        known = dict(stack.before_id.fields)
        parts += [(name, known[name]) for name in _OF_STACK if name in known]
    if syn is not None and syn.link is not None:
        parts.append(link_fields(syn.link))
    parts.append(context.tail())
    return headline.event(parts, context.conn_id)


def datagram_headline(context: Context, time_ns: int, decky: str) -> Headline:
    """The same for datagrams of a protocol over IP that a decky has sent first."""
    transport = _TRANSPORTS[context.protocol]
    return Headline(
        "decky_initiated",
        time_ns,
        decky,
        context.source,
        f"{context.destination}|{context.ends.server_port}|{transport}",
        WARNING,
        f"{transport} {_service(context)}",
    )


def datagram_event(headline: Headline, context: Context, begun: Begun, peer: str | None) -> Event:
    """Make the event of datagrams. `peer` is the decky to which they went, if it was one."""
    has_ports = _has_ports(context)
    parts: Parts = [context.addresses() if has_ports else context.bare_addresses()]
    if peer is not None:
        parts.append(("dst_decky", peer))
    parts.append(("transport", _TRANSPORTS[context.protocol]))
    parts.append(("ip_version", 4 if begun.decky.startswith(MAPPED_PREFIX) else 6))
    if begun.link:
        link = Link(begun.link & (1 << _MAC_BITS) - 1, begun.link >> _MAC_BITS)
        parts.append(link_fields(link))
    if has_ports:
        parts.append(context.tail())
        return headline.event(parts, context.conn_id)
    parts.append(("direction", context.direction))
    return headline.event(parts, f"{context.source} {context.destination} {context.protocol}")


def _has_ports(context: Context) -> bool:
    return bool(context.ends.client_port or context.ends.server_port)


def _service(context: Context) -> str:
    """Where the datagrams went, for a person."""
    return context.service if _has_ports(context) else context.destination
