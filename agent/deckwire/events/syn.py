"""tcp_syn_fingerprint: the system or tool that sent a SYN packet."""

from __future__ import annotations

from functools import lru_cache

from deckwire.connections.uptimes import Uptime
from deckwire.events.choices import Choices
from deckwire.events.context import Context, Fields, Parts
from deckwire.events.event import INFORMATIONAL, Block, Event, Headline
from deckwire.events.stack import Stack
from deckwire.limits import WORDS
from deckwire.tcp.syn_packet import Link, Sequences, SynPacket


def headline(
    context: Context, syn: SynPacket, time_ns: int, stack: Stack, choices: Choices
) -> Headline:
    """Everything that deduplication needs of the event.

    If wanted, a source whose numbers turn out to be of another class has another key.
    """
    key = stack.fingerprint
    if choices.sequences and (sequences := syn.sequences) is not None:
        key = f"{key}|{sequences.ipid_class}|{sequences.isn_class}"
    return Headline(
        "tcp_syn_fingerprint",
        time_ns,
        context.host,
        context.source,
        context.fingerprint(key, choices),
        INFORMATIONAL,
        stack.tool or context.service,
    )


def syn_event(
    headline: Headline,
    context: Context,
    syn: SynPacket,
    stack: Stack,
    uptime: Uptime | None = None,
) -> Event:
    """Make the event for one SYN packet; `headline` has its wall-clock time.

    `uptime` is that of its source, if it is known.
    """
    parts: Parts = [context.addresses(), stack.before_id]
    if syn.ip_version == 4:
        parts.append(("ip_id", syn.ip_id))
    parts.append(stack.after_id)
    if syn.sequences is not None:
        parts.append(_sequence_fields(syn.sequences))
    parts += (("total_len", syn.total_len), stack.quirks)
    if uptime is not None:
        parts += [("uptime", uptime.seconds), ("uptime_hz", uptime.rate)]
    if syn.link is not None:
        parts.append(link_fields(syn.link))
    parts.append(context.tail())
    return headline.event(parts, context.conn_id)


# Most SYNs are the first of their source.
@lru_cache(maxsize=WORDS)
def _sequence_fields(sequences: Sequences) -> Block:
    """The classes of a source's numbers, as far as they are known."""
    fields: Fields = []
    if sequences.ipid_class:
        fields.append(("ipid_class", sequences.ipid_class))
        fields.append(("ipid_samples", sequences.ipid_samples))
    if sequences.isn_class:
        fields.append(("isn_class", sequences.isn_class))
        fields.append(("isn_samples", sequences.isn_samples))
    return Block(fields)


# Most sources are behind the same router.
@lru_cache(maxsize=WORDS)
def link_fields(link: Link) -> Block:
    """src_mac and vlan of a SYN, as far as its link has them."""
    fields: Fields = []
    if link.mac:
        fields.append(("src_mac", link.mac_text))
    if link.vlan:
        fields.append(("vlan", link.vlan))
    return Block(fields)
