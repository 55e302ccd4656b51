"""tcp_syn_fingerprint: the system or tool that sent a SYN packet."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.context import Context, Parts
from deckwire.events.event import Event, Headline
from deckwire.events.stack import Stack
from deckwire.tcp.syn_packet import SynPacket


def headline(context: Context, time_ns: int, stack: Stack, choices: Choices) -> Headline:
    """Everything that deduplication needs of the event.

    A scan of two deckies is seen on both, because the address is a part of the key. The old sniffer
    had no such part.
    """
    key = stack.fingerprint
    if not choices.decnet:
        key = f"{context.destination}|{key}"
    return Headline("tcp_syn_fingerprint", time_ns, context.host, context.source, key)


def syn_event(headline: Headline, context: Context, syn: SynPacket, stack: Stack) -> Event:
    """Make the event for one SYN packet; `headline` has its wall-clock time."""
    parts: Parts = [context.addresses(), stack.before_id]
    if syn.ip_version == 4:
        parts.append(("ip_id", syn.ip_id))
    parts += [stack.after_id, context.tail()]
    return headline.event(parts)
