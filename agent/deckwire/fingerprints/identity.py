"""Who sent an opening: system, link and tool together, as the SYN event tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deckwire.fingerprints import p0f, scanners, tcp_options
from deckwire.fingerprints.link import link
from deckwire.fingerprints.os_guess import os_guess
from deckwire.fingerprints.p0f_db import SignatureFile
from deckwire.fingerprints.p0f_match import SignatureIndex
from deckwire.limits import ANSWERS
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


class Identifier:
    """Identifies openings by one signature file."""

    def __init__(self, signature_file: SignatureFile) -> None:
        self._index = SignatureIndex(signature_file.signatures)
        self._links = signature_file.links
        self._answers: dict[object, Answer] = {}

    def identify(
        self, opening: Opening, destination: bytes, dport: int, syn_mss: int | None = None
    ) -> Identity:
        """The sender of an opening; `destination` is the packed address it was sent to.

        `syn_mss` is the MSS of the SYN that a SYN-ACK answers.
        """
        observation = p0f.observe(opening, syn_mss)
        match = self._index.match(observation)
        label = match.label if match is not None else None
        tool = scanners.recognise(opening, destination, dport)
        if tool is None and label is not None and label.is_tool:
            tool = scanners.Tool(label.name.lower(), f"signature {label}")
        system = label if tool is None else None
        return Identity(
            p0f_sig=observation.signature,
            os=str(system) if system is not None else None,
            os_class=system.os_class if system is not None else None,
            os_guess=os_guess(system, tool.name if tool is not None else None),
            link=link(observation, self._links),
            tool=tool.name if tool is not None else None,
            tool_evidence=tool.evidence if tool is not None else None,
        )

    def identify_answer(self, synack: Opening, syn: Opening | None) -> Answer:
        """The system that answered; its window may count in the MSS of the SYN.

        A server's SYN-ACKs differ in what no signature looks at, so most cost a look-up.
        """
        options = tcp_options.walk(synack.options)
        syn_mss = tcp_options.walk(syn.options).mss if syn is not None else None
        own, echoed = options.timestamp or (0, 0)
        key = (
            (synack.ip_version, synack.ttl, synack.tos, synack.window, synack.flags, syn_mss),
            (synack.df, synack.ip_reserved, synack.ip_options_len, bool(synack.ip_id)),
            (bool(synack.flow_label), bool(synack.seq), bool(synack.ack), bool(synack.urgent)),
            (bool(synack.payload_len), bool(own), bool(echoed)),
            (options.layout, options.mss, options.wscale, options.sack_permitted),
            (options.padding, options.padding_zeros, options.malformed),
        )
        answer = self._answers.get(key)
        if answer is None:
            observation = p0f.observe(synack, syn_mss)
            match = self._index.match(observation)
            label = match.label if match is not None and not match.label.is_tool else None
            answer = Answer(
                observation.signature,
                str(label) if label is not None else None,
                label.os_class if label is not None else None,
            )
            if len(self._answers) >= ANSWERS:
                self._answers.clear()
            self._answers[key] = answer
        return answer
