"""The techniques of `tcp_anomaly`: what an attacker does to be misread, one name for each."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Technique(StrEnum):
    """The value of the field `technique`. docs/events.md explains each. The kernel's come first."""

    REFUSED_WINDOW = "refused_window"
    REFUSED_ACK = "refused_ack"
    REFUSED_FLAGS = "refused_flags"
    REFUSED_RST = "refused_rst"
    REFUSED_CHECKSUM = "refused_checksum"
    REFUSED_OPTION = "refused_option"
    REFUSED_TIMESTAMP = "refused_timestamp"
    DATA_AFTER_FIN = "data_after_fin"
    FORGED_SYNACK = "forged_synack"
    FORGED_SOURCE = "forged_source"
    TOO_MANY_HEADERS = "too_many_headers"
    EXCESS_HANDSHAKE = "excess_handshake"
    OVERLAPPING_SEGMENTS = "overlapping_segments"
    CONTESTED_HELLO = "contested_hello"
    UNANSWERED_HELLO = "unanswered_hello"


_ALL = tuple(Technique)
KERNEL_TECHNIQUES = (None, *_ALL[: _ALL.index(Technique.EXCESS_HANDSHAKE) + 1])
"""enum technique of bpf/abi.h, by its numbers."""

_NOTHING_TAKEN = "the receiver takes nothing of the segment"
_NOT_READ = "nothing of the packet was read"

BELIEVED = {
    Technique.REFUSED_WINDOW: _NOTHING_TAKEN,
    Technique.REFUSED_ACK: _NOTHING_TAKEN,
    Technique.REFUSED_FLAGS: _NOTHING_TAKEN,
    Technique.REFUSED_RST: "the connection is still open",
    Technique.REFUSED_CHECKSUM: _NOTHING_TAKEN,
    Technique.REFUSED_OPTION: _NOTHING_TAKEN,
    Technique.REFUSED_TIMESTAMP: _NOTHING_TAKEN,
    Technique.DATA_AFTER_FIN: "the stream ended with the FIN",
    Technique.FORGED_SYNACK: "the client and the server are the ones before",
    Technique.FORGED_SOURCE: "nothing was believed of the frame",
    Technique.TOO_MANY_HEADERS: _NOT_READ,
    Technique.EXCESS_HANDSHAKE: "the rest of the direction was not read",
    Technique.OVERLAPPING_SEGMENTS: "the copy that Linux keeps",
    Technique.CONTESTED_HELLO: "the copy in tls_client_hello",
    Technique.UNANSWERED_HELLO: "the hello that was answered",
}
"""What Deckwire believed instead, for the field `believed`."""

_FLAGS = "FSRPAUECN"
"""A letter for each TCP flag, from the lowest bit on, as tcpdump has them; N is the nonce bit."""


class Anomaly(NamedTuple):
    """One finding: a technique, and what shows it."""

    technique: Technique
    evidence: str
    """Text for a person. It may contain bytes from the wire, and the formatter escapes it."""


def flag_letters(flags: int) -> str:
    """The letters of TCP flags, for instance ``PA``; ``none`` without any."""
    return "".join(letter for bit, letter in enumerate(_FLAGS) if flags >> bit & 1) or "none"


def segment_evidence(
    flags: int, seq: int, ack: int, size: int, expected: tuple[int, int] | None
) -> str:
    """What a segment says, and what its receiver expects (seq and ack) if that is known."""
    text = f"flags {flag_letters(flags)} seq {seq} ack {ack} bytes {size}"
    return text if expected is None else f"{text}, expected seq {expected[0]} ack {expected[1]}"
