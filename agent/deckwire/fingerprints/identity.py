"""Who sent a SYN or SYN-ACK packet: operating system, link and scanning tool together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from deckwire.fingerprints import p0f, scanners
from deckwire.fingerprints.link import link
from deckwire.fingerprints.os_guess import UNKNOWN, os_guess
from deckwire.fingerprints.p0f_db import Label, SignatureFile
from deckwire.fingerprints.p0f_match import SignatureIndex, compare
from deckwire.fingerprints.scanners import TOOL_IP_IDS, Tool
from deckwire.limits import SYSTEMS
from deckwire.resilience.bounded import Bounded
from deckwire.tcp import options as tcp_options
from deckwire.tcp.syn_packet import SynPacket


@dataclass(frozen=True, slots=True)
class Identity:
    """The sender of a SYN packet. None stands for unknown; the event leaves the field out."""

    p0f_sig: str
    quirks: tuple[str, ...]
    """Its quirks by p0f's names."""
    os: str | None
    """Label of the matching signature; None for a tool, because a tool is not a system."""
    os_class: str | None
    os_guess: str
    link: str | None
    tool: str | None
    tool_evidence: str | None


class ServerIdentity(NamedTuple):
    """The sender of a SYN-ACK packet. None stands for unknown."""

    p0f_sig: str
    os: str | None
    os_class: str | None
    family: str = UNKNOWN
    """The word of os_guess for it."""
    exact: bool = False
    """The signature fits without a change that a network can make."""


class _Recognised(NamedTuple):
    """The result for all packets with equal values of the fields that recognition reads."""

    identity: Identity
    server: ServerIdentity
    has_relations: bool
    """Fields outside the key may still show a tool."""
    label: Label | None


class Identifier:
    """Identifies SYN and SYN-ACK packets with one signature file.

    It keeps the results of the packets recognised last, at most SYSTEMS of them: most packets of a
    host come from few systems, and recognising one anew takes about ten times as long.
    """

    def __init__(self, signature_file: SignatureFile, entries: int = SYSTEMS) -> None:
        """`entries` is the largest number of results that are kept."""
        self._index = SignatureIndex(signature_file.signatures)
        self._links = signature_file.links
        self._recognised: Bounded[object, _Recognised] = Bounded(entries)

    def identify(self, syn: SynPacket, destination: bytes, dport: int) -> Identity:
        """Return the sender of a SYN packet to `destination`, 16 bytes, IPv4 as IPv4-mapped.

        SYN packets that get the same object have equal values in all fields of their event,
        except the IP identification.
        """
        recognised = self._recognise(syn, None)
        if recognised.has_relations:
            # Relations between fields are checked first: they are stronger evidence than traits.
            tool = scanners.by_relations(syn, destination, dport)
            if tool is not None:
                known = recognised.identity
                return _identity(known.p0f_sig, known.quirks, recognised.label, known.link, tool)
        return recognised.identity

    def identify_synack(self, synack: SynPacket, syn: SynPacket | None) -> ServerIdentity:
        """Return the sender of a SYN-ACK packet; `syn` is the SYN packet that it responds to.

        Some systems choose their window as a multiple of the MSS of the SYN. SYN-ACK packets that
        get the same object have equal values in all fields of their event.
        """
        syn_mss = tcp_options.mss(syn.options) if syn is not None else None
        return self._recognise(synack, syn_mss).server

    def _recognise(self, syn_packet: SynPacket, syn_mss: int | None) -> _Recognised:
        # Only fields that recognition reads: packets of one system differ mostly in the others.
        key = (
            syn_packet.ip_version,
            syn_packet.ttl,
            syn_packet.tos,
            syn_packet.window,
            syn_packet.flags,
            syn_packet.df,
            syn_packet.ip_reserved,
            syn_packet.ip_options_len,
            syn_packet.ip_id if syn_packet.ip_id in TOOL_IP_IDS else None,
            syn_packet.flow_label != 0,
            syn_packet.seq != 0,
            syn_packet.ack != 0,
            syn_packet.urgent != 0,
            syn_packet.payload_len != 0,
            tcp_options.alike(syn_packet.options),
            syn_mss,
        )
        recognised = self._recognised.get(key)
        if recognised is None:
            recognised = _recognise_anew(self._index, self._links, syn_packet, syn_mss)
            self._recognised.put(key, recognised)
        else:
            self._recognised.refresh(key)
        return recognised


def _recognise_anew(
    index: SignatureIndex, links: Mapping[int, str], syn_packet: SynPacket, syn_mss: int | None
) -> _Recognised:
    observation = p0f.observe(syn_packet, syn_mss)
    match = index.match(observation)
    label = match.label if match is not None else None
    p0f_sig, medium = observation.signature, link(observation, links)
    system = None if label is None or label.is_tool else label
    return _Recognised(
        _identity(p0f_sig, observation.quirk_names, label, medium, scanners.by_traits(syn_packet)),
        ServerIdentity(
            p0f_sig,
            str(system) if system is not None else None,
            system.os_class if system is not None else None,
            os_guess(system, None),
            match is not None and compare(match, observation) is True,
        ),
        scanners.has_relations(syn_packet),
        label,
    )


def _identity(
    p0f_sig: str,
    quirks: tuple[str, ...],
    label: Label | None,
    medium: str | None,
    tool: Tool | None,
) -> Identity:
    if tool is None and label is not None and label.is_tool:
        tool = Tool(label.name.lower(), f"signature {label}")
    system = label if tool is None else None
    return Identity(
        p0f_sig=p0f_sig,
        quirks=quirks,
        os=str(system) if system is not None else None,
        os_class=system.os_class if system is not None else None,
        os_guess=os_guess(system, tool.name if tool is not None else None),
        link=medium,
        tool=tool.name if tool is not None else None,
        tool_evidence=tool.evidence if tool is not None else None,
    )
