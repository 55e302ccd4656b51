"""What the kernel sends: from the bytes of a ring record to one of four values."""

from __future__ import annotations

from typing import Any, NamedTuple

from deckwire import abi
from deckwire.flow import FlowRecord, SideRecord
from deckwire.handshake import Handshake
from deckwire.opening import Opening


class MalformedSample(Exception):
    """Bytes that the kernel side cannot have sent whole; the message names the cause."""


class SynSample(NamedTuple):
    """A SYN to or from a decky."""

    time_ns: int
    born_ns: int
    key: bytes
    client: int
    """The end that sent it: 0 or 1."""
    signature: int
    """The kernel's hash of what tells SYNs apart."""
    syn: Opening


class HandshakeSample(NamedTuple):
    """A three-way handshake that completed; `time_ns` is the final ACK's."""

    time_ns: int
    born_ns: int
    key: bytes
    client: int
    signature: int
    """As in SynSample; 0 if the SYN was not seen."""
    syn_sampled: bool
    """The SYN went out as a sample of its own."""
    handshake: Handshake


class SegmentSample(NamedTuple):
    """Payload that may carry handshake bytes of TLS."""

    time_ns: int
    born_ns: int
    key: bytes
    sender: int
    client: int
    """0, 1 or abi.CLIENT_UNKNOWN."""
    stray: bool
    seq: int
    """Sequence number of the payload's first byte."""
    start_seq: int | None
    """Where the kernel saw TLS begin in this direction, in the segment that shows it."""
    payload: bytes
    """Up to the last clear-text record."""
    claimed: int
    """Payload bytes of the segment by its headers: more than are here if they were cut."""
    ends: bool = False
    """Behind this payload the direction is encrypted."""


class EndSample(NamedTuple):
    """A connection's end."""

    time_ns: int
    born_ns: int
    key: bytes
    record: FlowRecord


Sample = SynSample | HandshakeSample | SegmentSample | EndSample


def decode(data: bytes) -> Sample:
    """Decode one ring record; padding behind a sample is ignored.

    Raises:
        MalformedSample: shorter than its kind asks for, or of no kind that is known.
    """
    if len(data) < abi.SAMPLE_HEAD_BYTES:
        raise MalformedSample("head_short")
    head = abi.SAMPLE_HEAD.parse(data)
    kind = head.kind
    if kind == abi.SAMPLE_SEGMENT:
        return _segment(head, data)
    if kind in (abi.SAMPLE_SYN, abi.SAMPLE_HANDSHAKE):
        return _attempt(head, data)
    if kind == abi.SAMPLE_END:
        return EndSample(
            head.time_ns,
            head.born_ns,
            head.key,
            flow_record(data[abi.SAMPLE_HEAD_BYTES :]),
        )
    raise MalformedSample("kind_unknown")


def flow_handshake(value: bytes) -> Handshake:
    """The openings that a value of the flows or strays map keeps.

    Raises:
        MalformedSample: the value is too short.
    """
    if len(value) < abi.FLOW_BYTES:
        raise MalformedSample("flow_short")
    totals = abi.FLOW_TOTALS.parse(value)
    openings = value[abi.FLOW_TOTALS_BYTES :]
    syn, syn_retransmits = _opening(openings)
    synack, synack_retransmits = _opening(openings[abi.OPENING_BYTES :])
    established_ns = totals.established_ns or None
    return Handshake(syn, synack, established_ns, syn_retransmits, synack_retransmits)


def flow_record(value: bytes) -> FlowRecord:
    """A struct flow_totals, or a value of the flows or strays map, which begins with one.

    Raises:
        MalformedSample: the value is too short.
    """
    if len(value) < abi.FLOW_TOTALS_BYTES:
        raise MalformedSample("flow_short")
    totals = abi.FLOW_TOTALS.parse(value)
    return FlowRecord(
        totals.born_ns,
        totals.first_ns,
        totals.last_ns,
        totals.min_iat_ns,
        totals.max_iat_ns,
        abi.CLOSES[totals.close] if totals.close < len(abi.CLOSES) else "",
        bool(totals.flags & abi.FLOW_STRAY),
        bool(totals.flags & abi.FLOW_TOLD),
        min(totals.client, abi.CLIENT_UNKNOWN),
        (_side(totals.side, 0), _side(totals.side, 1)),
        _known_us(totals.rtt_client_us),
        _known_us(totals.rtt_server_us),
    )


def _segment(head: Any, data: bytes) -> SegmentSample:
    start = abi.SAMPLE_HEAD_BYTES + head.payload_off
    end = start + head.copied
    if end > len(data):
        raise MalformedSample("segment_short")
    return SegmentSample(
        head.time_ns,
        head.born_ns,
        head.key,
        head.sender & 1,
        min(head.client, abi.CLIENT_UNKNOWN),
        bool(head.flags & abi.SAMPLE_FLOW_STRAY),
        head.seq,
        head.start_seq if head.flags & abi.SAMPLE_TLS_STARTS else None,
        data[start:end],
        head.payload_len,
        bool(head.flags & abi.SAMPLE_TLS_ENDS),
    )


def _attempt(head: Any, data: bytes) -> SynSample | HandshakeSample:
    body = data[abi.SAMPLE_HEAD_BYTES :]
    if len(body) < abi.HALF_OPEN_BYTES:
        raise MalformedSample("attempt_short")
    half = abi.HALF_OPEN.parse(body)
    client = half.client & 1
    syn, syn_retransmits = _opening(half.syn)
    if head.kind == abi.SAMPLE_SYN:
        if syn is None:
            raise MalformedSample("syn_missing")
        return SynSample(head.time_ns, head.born_ns, head.key, client, half.signature, syn)
    synack, synack_retransmits = _opening(half.synack)
    return HandshakeSample(
        head.time_ns,
        head.born_ns,
        head.key,
        client,
        half.signature,
        bool(half.syn_sampled),
        Handshake(syn, synack, head.time_ns, syn_retransmits, synack_retransmits),
    )


def _opening(data: bytes) -> tuple[Opening | None, int]:
    """A struct opening, if one was seen, and how often it was repeated."""
    ip_version = data[abi.OPENING_IP_VERSION]
    if not ip_version:
        return None, 0
    if ip_version not in (4, 6):
        raise MalformedSample("opening_malformed")
    opening = abi.OPENING.parse(data)
    return Opening(
        time_ns=opening.time_ns,
        ip_version=ip_version,
        ttl=opening.ttl,
        tos=opening.tos,
        ip_id=opening.ip_id,
        df=bool(opening.ip_flags & abi.OPENING_DF),
        ip_reserved=bool(opening.ip_flags & abi.OPENING_RESERVED),
        ip_options_len=opening.ip_options_len,
        flow_label=opening.flow_label,
        seq=opening.seq,
        ack=opening.ack,
        flags=opening.flags,
        window=opening.window,
        urgent=opening.urgent,
        options=opening.options[: opening.options_len],
        payload_len=opening.payload_len,
    ), opening.retransmits


def _side(sides: bytes, end: int) -> SideRecord:
    side = abi.FLOW_SIDE.parse(sides, end * abi.FLOW_SIDE.size)
    return SideRecord(side.packets, side.bytes, side.retransmits)


def _known_us(rtt_us: int) -> int | None:
    return None if rtt_us == abi.RTT_UNKNOWN else rtt_us
