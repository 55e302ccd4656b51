"""Who sent an opening: system, link and tool together, as the SYN event tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deckwire.fingerprints import p0f, scanners
from deckwire.fingerprints.link import link
from deckwire.fingerprints.os_guess import os_guess
from deckwire.fingerprints.p0f_db import Label, SignatureFile
from deckwire.fingerprints.p0f_match import SignatureIndex
from deckwire.fingerprints.scanners import TELLING_IDS, Tool
from deckwire.limits import SYSTEMS
from deckwire.tcp import options as tcp_options
from deckwire.tcp.syn_packet import SynPacket


@dataclass(frozen=True, slots=True)
class Identity:
    """None stands for what is not known; the event leaves it out."""

    p0f_sig: str
    os: str | None
    """The label of the matching signature; None for a tool, which is no system."""
    os_class: str | None
    os_guess: str
    link: str | None
    tool: str | None
    tool_evidence: str | None


class ServerIdentity(NamedTuple):
    """Who sent a SYN-ACK; None stands for what is not known."""

    p0f_sig: str
    os: str | None
    os_class: str | None


class _System(NamedTuple):
    """What is told of openings that differ in nothing but what their kind leaves open."""

    identity: Identity
    answer: ServerIdentity
    has_relations: bool
    """What it leaves open may still show a tool."""
    label: Label | None


class Identifier:
    """Identifies openings by one signature file."""

    def __init__(self, signature_file: SignatureFile) -> None:
        self._index = SignatureIndex(signature_file.signatures)
        self._links = signature_file.links
        self._systems: dict[object, _System] = {}

    def identify(self, syn: SynPacket, destination: bytes, dport: int) -> Identity:
        """The sender of a SYN to `destination`, 16 bytes, IPv4 as IPv4-mapped.

        SYNs that share the object returned are alike in all that their event tells, but for the
        IP identification.
        """
        system = self._system(syn, None)
        if system.has_relations:
            # Relations between fields come first: they are the stronger evidence.
            tool = scanners.by_relations(syn, destination, dport)
            if tool is not None:
                return _identity(system.identity.p0f_sig, system.label, system.identity.link, tool)
        return system.identity

    def identify_synack(self, synack: SynPacket, syn: SynPacket | None) -> ServerIdentity:
        """The system that answered; its window may count in the MSS of the SYN.

        Answers that are one object are alike in all that their event tells.
        """
        syn_mss = tcp_options.read(syn.options).mss if syn is not None else None
        return self._system(synack, syn_mss).answer

    def _system(self, syn_packet: SynPacket, syn_mss: int | None) -> _System:
        """Openings differ most in what nobody looks at, so most cost a look-up."""
        key = (
            syn_packet.ip_version,
            syn_packet.ttl,
            syn_packet.tos,
            syn_packet.window,
            syn_packet.flags,
            syn_packet.df,
            syn_packet.ip_reserved,
            syn_packet.ip_options_len,
            syn_packet.ip_id if syn_packet.ip_id in TELLING_IDS else None,
            syn_packet.flow_label != 0,
            syn_packet.seq != 0,
            syn_packet.ack != 0,
            syn_packet.urgent != 0,
            syn_packet.payload_len != 0,
            tcp_options.alike(syn_packet.options),
            syn_mss,
        )
        system = self._systems.get(key)
        if system is None:
            if len(self._systems) >= SYSTEMS:
                self._systems.clear()
            system = self._systems[key] = self._recognise(syn_packet, syn_mss)
        return system

    def _recognise(self, syn_packet: SynPacket, syn_mss: int | None) -> _System:
        observation = p0f.observe(syn_packet, syn_mss)
        match = self._index.match(observation)
        label = match.label if match is not None else None
        signature, medium = observation.signature, link(observation, self._links)
        system = None if label is None or label.is_tool else label
        return _System(
            _identity(signature, label, medium, scanners.by_traits(syn_packet)),
            ServerIdentity(
                signature,
                str(system) if system is not None else None,
                system.os_class if system is not None else None,
            ),
            scanners.has_relations(syn_packet),
            label,
        )


def _identity(
    signature: str, label: Label | None, medium: str | None, tool: Tool | None
) -> Identity:
    if tool is None and label is not None and label.is_tool:
        tool = Tool(label.name.lower(), f"signature {label}")
    system = label if tool is None else None
    return Identity(
        p0f_sig=signature,
        os=str(system) if system is not None else None,
        os_class=system.os_class if system is not None else None,
        os_guess=os_guess(system, tool.name if tool is not None else None),
        link=medium,
        tool=tool.name if tool is not None else None,
        tool_evidence=tool.evidence if tool is not None else None,
    )
