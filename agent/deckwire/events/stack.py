"""The fields of a SYN packet, computed once for all that a stack sends alike."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.events.choices import Choices
from deckwire.events.context import Fields
from deckwire.events.event import Block
from deckwire.fingerprints import ja4plus, p0f
from deckwire.fingerprints.identity import Identity
from deckwire.scans.author import Author
from deckwire.tcp import options as tcp_options
from deckwire.tcp.syn_packet import SynPacket


class Stack(NamedTuple):
    """The finished fields of all SYN packets of one identity, without the IP identification."""

    fingerprint: str
    """What the event is deduplicated by, in addition to the decky."""
    tool: str
    """The scanner that built it; "" if none is known."""
    author: Author
    """What it shows of its sender."""
    before_id: Block
    after_id: Block
    quirks: Block
    """Empty if it has none."""


def describe(identity: Identity, syn: SynPacket, choices: Choices) -> Stack:
    """Compute the fields; every SYN packet of one identity gives equal fields.

    Identifier.identify gives that identity.
    """
    options = tcp_options.read(syn.options)
    options_sig = tcp_options.options_sig(options)
    fields: Fields = [
        ("ttl", syn.ttl),
        ("initial_ttl", p0f.initial_ttl(syn.ttl)),
        ("hop_distance", p0f.hop_distance(syn.ttl)),
        ("window", syn.window),
        ("mss", options.mss or 0),
        ("wscale", "" if options.wscale is None else options.wscale),
        ("options_sig", options_sig),
        ("has_sack", options.sack_permitted),
        ("has_timestamps", options.timestamp is not None),
        ("os_guess", identity.os_guess),
    ]
    ja4t = ja4plus.ja4t(syn.window, options)
    if choices.ja4plus:
        fields.append(("ja4t", ja4t))
    fields.append(("p0f_sig", identity.p0f_sig))
    fields += _known(identity)
    fields.append(("ip_version", syn.ip_version))
    after_id: Fields = [("df", syn.df)] if syn.ip_version == 4 else []
    after_id += [("dscp", syn.tos >> 2), ("ecn", syn.tos & 3), ("tos", syn.tos)]
    tool = identity.tool or ""
    fingerprint = f"{identity.os_guess}|{options_sig}"
    if not choices.decnet:
        fingerprint = f"{fingerprint}|{tool}|{ja4t}"
    quirks: Fields = [("quirks", identity.quirks)] if identity.quirks else []
    author = Author(
        tool, identity.tool_evidence or "", identity.os or "", ja4t if choices.ja4plus else ""
    )
    return Stack(fingerprint, tool, author, Block(fields), Block(after_id), Block(quirks))


def _known(identity: Identity) -> Fields:
    """The fields of what was recognised. An unknown field is left out."""
    named = (
        ("os", identity.os),
        ("os_class", identity.os_class),
        ("link", identity.link),
        ("tool", identity.tool),
        ("tool_evidence", identity.tool_evidence),
    )
    return [(name, value) for name, value in named if value is not None]
