"""tcp_handshake: a completed three-way handshake with its round-trip times."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.context import Context, Parts
from deckwire.events.event import INFORMATIONAL, Event, Headline
from deckwire.events.latency import handshake_fields
from deckwire.events.server_stack import ServerStack
from deckwire.tcp.handshake import Handshake


def headline(context: Context, time_ns: int) -> Headline:
    """Everything that deduplication needs of the event."""
    return Headline(
        "tcp_handshake",
        time_ns,
        context.host,
        context.source,
        f"{context.destination}|{context.ends.server_port}",
        INFORMATIONAL,
        context.service,
    )


def handshake_event(
    headline: Headline,
    context: Context,
    handshake: Handshake,
    choices: Choices,
    server_stack: ServerStack | None = None,
) -> Event:
    """Make the event for one completed handshake.

    `headline` has the wall-clock time of the final ACK. `server_stack` is the stack that sent the
    SYN-ACK packet, if one was seen.
    """
    parts: Parts = [context.addresses()]
    if server_stack is not None:
        parts.append(server_stack.ja4ts)
    parts.append(handshake_fields(handshake, ja4plus=choices.ja4plus))
    if server_stack is not None:
        parts.append(server_stack.system)
    parts.append(context.tail())
    return headline.event(parts, context.conn_id)
