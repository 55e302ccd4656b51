"""decky_initiated: a decky opened a connection, which no decoy does by itself."""

from __future__ import annotations

from deckwire.events.context import Context, Parts
from deckwire.events.event import WARNING, Event, Headline
from deckwire.events.stack import Stack
from deckwire.events.syn import link_fields
from deckwire.tcp.syn_packet import SynPacket

_OF_STACK = (*("ttl", "ja4t", "p0f_sig", "os", "os_class", "tool", "tool_evidence", "ip_version"),)
"""Fields of the SYN that say what sent it."""


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
    if stack is not None:
        known = dict(stack.before_id.fields)
        parts += [(name, known[name]) for name in _OF_STACK if name in known]
    if syn is not None and syn.link is not None:
        parts += link_fields(syn.link)
    parts.append(context.tail())
    return headline.event(parts, context.conn_id)
