"""tcp_handshake: a three-way handshake that completed, with its round trips."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.context import Context, Parts
from deckwire.events.event import Event, Headline
from deckwire.events.latency import ja4l_fields, rtt_fields
from deckwire.events.server_stack import ServerStack
from deckwire.tcp.handshake import Handshake


def headline(context: Context, time_ns: int) -> Headline:
    """What it is deduplicated by."""
    return Headline(
        "tcp_handshake",
        time_ns,
        context.host,
        context.source,
        f"{context.destination}|{context.ends.server_port}",
    )


def handshake_event(
    told: Headline,
    context: Context,
    handshake: Handshake,
    choices: Choices,
    server_stack: ServerStack | None = None,
) -> Event:
    """One connection that was opened; `told` has the final ACK's wall-clock time.

    `server_stack` is who sent the SYN-ACK, if one was seen.
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
    return told.event(parts)
