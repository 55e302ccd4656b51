"""What the kernel sends: from the bytes of a ring record to one of four values."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.abi import structs as abi
from deckwire.connections.suppressed_hello import SuppressedHello
from deckwire.tcp.flow import FlowRecord, SideRecord
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.syn_packet import SynPacket

_ENDS = (0, 1)


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
    syn: SynPacket


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
    midstream: bool
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
    hello: int = 0
    """The kernel's hash of the ClientHello that this is, or that it hid, and its sender; or 0."""
    hello_suppressed: bool = False
    """The kernel sent no sample of the connection's ClientHello: the agent had told it."""


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
    kind = data[abi.SAMPLE_KIND]
    if kind == abi.SAMPLE_SEGMENT:
        return _segment(data)
    if kind in (abi.SAMPLE_SYN, abi.SAMPLE_HANDSHAKE):
        return _attempt(kind, data)
    if kind == abi.SAMPLE_END:
        time_ns, born_ns, key = abi.END.unpack_from(data)
        return EndSample(time_ns, born_ns, key, flow_record(data, abi.SAMPLE_HEAD_BYTES))
    raise MalformedSample("kind_unknown")


def flow_handshake(value: bytes) -> Handshake:
    """The openings that a value of the flows or midstream map keeps.

    Raises:
        MalformedSample: the value is too short.
    """
    if len(value) < abi.FLOW_BYTES:
        raise MalformedSample("flow_short")
    (established_ns,) = abi.ESTABLISHED.unpack_from(value)
    syn, syn_retransmits = _syn_packet(value, abi.FLOW_SYN)
    synack, synack_retransmits = _syn_packet(value, abi.FLOW_SYNACK)
    return Handshake(syn, synack, established_ns or None, syn_retransmits, synack_retransmits)


def flow_suppressed_hello(value: bytes, seed: int) -> SuppressedHello:
    """What a value of the flows map keeps of the ClientHello, made with the kernel's seed.

    Raises:
        MalformedSample: the value is too short.
    """
    if len(value) < abi.FLOW_BYTES:
        raise MalformedSample("flow_short")
    signature, session_id, end_seq = abi.FLOW_HELLO.unpack_from(value)
    return SuppressedHello(signature, session_id, end_seq, seed)


def flow_record(value: bytes, at: int = 0) -> FlowRecord:
    """A struct flow_totals, or a value of the flows or midstream map, which begins with one.

    It stands at offset `at`.

    Raises:
        MalformedSample: the value is too short.
    """
    if len(value) - at < abi.FLOW_TOTALS_BYTES:
        raise MalformedSample("flow_short")
    (
        born_ns,
        last_ns,
        min_iat_ns,
        max_iat_ns,
        client,
        close,
        flags,
        packets_0,
        bytes_0,
        retransmits_0,
        packets_1,
        bytes_1,
        retransmits_1,
        first_ns,
        rtt_server_us,
        rtt_client_us,
        rtt_min_us,
    ) = abi.FLOW_TOTALS.unpack_from(value, at)
    # The kernel begins with the greatest number there is: a lower one was measured.
    measured = min_iat_ns <= max_iat_ns != abi.INTERVALS_UNKNOWN
    return FlowRecord(
        born_ns,
        first_ns,
        last_ns,
        min_iat_ns if measured else None,
        max_iat_ns if measured else None,
        abi.CLOSES[close] if close < len(abi.CLOSES) else "",
        flags & abi.FLOW_MIDSTREAM != 0,
        flags & abi.FLOW_END_SENT != 0,
        client if client in _ENDS else abi.CLIENT_UNKNOWN,
        (
            SideRecord(packets_0, bytes_0, retransmits_0),
            SideRecord(packets_1, bytes_1, retransmits_1),
        ),
        None if rtt_client_us == abi.RTT_UNKNOWN else rtt_client_us,
        None if rtt_server_us == abi.RTT_UNKNOWN else rtt_server_us,
        None if rtt_min_us == abi.RTT_UNKNOWN else rtt_min_us,
    )


def _segment(data: bytes) -> SegmentSample:
    (
        time_ns,
        born_ns,
        hello,
        key,
        seq,
        start_seq,
        payload_len,
        payload_off,
        copied,
        sender,
        client,
        flags,
    ) = abi.SEGMENT.unpack_from(data)
    start = abi.SAMPLE_HEAD_BYTES + payload_off
    end = start + copied
    if end > len(data):
        raise MalformedSample("segment_short")
    return SegmentSample(
        time_ns,
        born_ns,
        key,
        sender & 1,
        client if client in _ENDS else abi.CLIENT_UNKNOWN,
        flags & abi.SAMPLE_FLOW_MIDSTREAM != 0,
        seq,
        start_seq if flags & abi.SAMPLE_TLS_STARTS else None,
        data[start:end],
        payload_len,
        flags & abi.SAMPLE_TLS_ENDS != 0,
        hello,
        flags & abi.SAMPLE_HELLO_SUPPRESSED != 0,
    )


def _attempt(kind: int, data: bytes) -> SynSample | HandshakeSample:
    if len(data) < abi.HALF_OPEN_SAMPLE_BYTES:
        raise MalformedSample("half_open_short")
    time_ns, born_ns, key, signature, client, syn_sampled = abi.HALF_OPEN_SAMPLE.unpack_from(data)
    client &= 1
    syn, syn_retransmits = _syn_packet(data, abi.HALF_OPEN_SAMPLE_SYN)
    if kind == abi.SAMPLE_SYN:
        if syn is None:
            raise MalformedSample("syn_missing")
        return SynSample(time_ns, born_ns, key, client, signature, syn)
    synack, synack_retransmits = _syn_packet(data, abi.HALF_OPEN_SAMPLE_SYNACK)
    return HandshakeSample(
        time_ns,
        born_ns,
        key,
        client,
        signature,
        syn_sampled != 0,
        Handshake(syn, synack, time_ns, syn_retransmits, synack_retransmits),
    )


def _syn_packet(data: bytes, at: int) -> tuple[SynPacket | None, int]:
    """The struct syn_packet at an offset, if one was seen, and how often it was repeated."""
    ip_version = data[at + abi.SYN_PACKET_IP_VERSION]
    if not ip_version:
        return None, 0
    if ip_version not in (4, 6):
        raise MalformedSample("syn_packet_malformed")
    (
        time_ns,
        seq,
        ack,
        flow_label,
        payload_len,
        window,
        ip_id,
        urgent,
        flags,
        ip_options_len,
        ttl,
        tos,
        ip_version,
        ip_flags,
        options_len,
        retransmits,
        options,
    ) = abi.SYN_PACKET.unpack_from(data, at)
    # By position, in the order of SynPacket: by name it would cost half as much again.
    syn_packet = SynPacket(
        time_ns,
        ip_version,
        ttl,
        tos,
        ip_id,
        ip_flags & abi.IP_FLAG_DF != 0,
        ip_flags & abi.IP_FLAG_RESERVED != 0,
        ip_options_len,
        flow_label,
        seq,
        ack,
        flags,
        window,
        urgent,
        options[:options_len],
        payload_len,
        ip_flags & abi.OPENING_CUT != 0,
    )
    return syn_packet, retransmits
