"""Who sent an opening: system, link and tool together, as the SYN event tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deckwire.fingerprints import p0f, scanners, tcp_options
from deckwire.fingerprints.link import link
from deckwire.fingerprints.os_guess import os_guess
from deckwire.fingerprints.p0f_db import Label, SignatureFile
from deckwire.fingerprints.p0f_match import SignatureIndex
from deckwire.limits import SYSTEMS
from deckwire.opening import Opening


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


class Answer(NamedTuple):
    """Who sent a SYN-ACK; None stands for what is not known."""

    p0f_sig: str
    os: str | None
    os_class: str | None


class _System(NamedTuple):
    """What a signature says of an opening."""

    p0f_sig: str
    label: Label | None
    link: str | None
    answer: Answer
    """What is told of it if it sent a SYN-ACK."""


class Identifier:
    """Identifies openings by one signature file."""

    def __init__(self, signature_file: SignatureFile) -> None:
        self._index = SignatureIndex(signature_file.signatures)
        self._links = signature_file.links
        self._systems: dict[object, _System] = {}

    def identify(
        self, opening: Opening, destination: bytes, dport: int, syn_mss: int | None = None
    ) -> Identity:
        """The sender of an opening; `destination` is the packed address it was sent to.

        `syn_mss` is the MSS of the SYN that a SYN-ACK answers.
        """
        signature, label, medium, _ = self._system(opening, syn_mss)
        tool = scanners.recognise(opening, destination, dport)
        if tool is None and label is not None and label.is_tool:
            tool = scanners.Tool(label.name.lower(), f"signature {label}")
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

    def identify_answer(self, synack: Opening, syn: Opening | None) -> Answer:
        """The system that answered; its window may count in the MSS of the SYN."""
        syn_mss = tcp_options.walk(syn.options).mss if syn is not None else None
        return self._system(synack, syn_mss).answer

    def _system(self, opening: Opening, syn_mss: int | None) -> _System:
        """Openings differ most in what no signature looks at, so most cost a look-up."""
        options = tcp_options.walk(opening.options)
        own, echoed = options.timestamp or (0, 0)
        key = (
            (opening.ip_version, opening.ttl, opening.tos, opening.window, opening.flags, syn_mss),
            (opening.df, opening.ip_reserved, opening.ip_options_len, opening.ip_id != 0),
            (opening.flow_label != 0, opening.seq != 0, opening.ack != 0, opening.urgent != 0),
            (opening.payload_len != 0, own != 0, echoed != 0, len(opening.options)),
            (options.layout, options.mss, options.wscale, options.sack_permitted),
            (options.padding, options.padding_zeros, options.malformed, options.timestamp is None),
        )
        system = self._systems.get(key)
        if system is None:
            observation = p0f.observe(opening, syn_mss)
            match = self._index.match(observation)
            label = match.label if match is not None else None
            system = _System(
                observation.signature,
                label,
                link(observation, self._links),
                Answer(observation.signature, None, None)
                if label is None or label.is_tool
                else Answer(observation.signature, str(label), label.os_class),
            )
            if len(self._systems) >= SYSTEMS:
                self._systems.clear()
            self._systems[key] = system
        return system
