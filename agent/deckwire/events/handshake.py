"""tcp_handshake: a completed three-way handshake with its round-trip times."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.context import Context, Parts
from deckwire.events.event import INFORMATIONAL, Event, Headline
from deckwire.events.latency import ja4l_fields, rtt_fields
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
    parts += reversed(rtt_fields(handshake.rtt_client_us, handshake.rtt_server_us).fields)
    if choices.ja4plus:
        parts += reversed(ja4l_fields(handshake).fields)
    if handshake.syn is not None:
        parts.append(("client_ttl", handshake.syn.ttl))
    if handshake.synack is not None:
        parts.append(("server_ttl", handshake.synack.ttl))
    if handshake.syn is not None:
        parts.append(("syn_retransmits", handshake.syn_retransmits))
    if handshake.synack is not None:
        parts.append(("synack_retransmits", handshake.synack_retransmits))
    if server_stack is not None:
        parts.append(server_stack.system)
    parts.append(context.tail())
    return headline.event(parts, context.conn_id)
