"""Samples of the kernel side, decoded from ring records into values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from deckwire.abi import structs as abi
from deckwire.abi.hashes import session_id_hash
from deckwire.limits import WORDS
from deckwire.tcp.anomaly import KERNEL_TECHNIQUES, Anomaly, segment_evidence
from deckwire.tcp.flow import FlowRecord, SideRecord, has_ports
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.options import sack_blocks
from deckwire.tcp.syn_packet import URG, Link, Sequences, SynPacket

_ENDS: Final = (0, 1)
_ETHERNET_BYTES: Final = 14
_MAC_BITS: Final = 48
_MAC_MASK: Final = (1 << _MAC_BITS) - 1
_SEQ_MASK: Final = 0xFFFF_FFFF
_SEQ_HALF: Final = 0x8000_0000
_HALF_OPEN: Final = (abi.SAMPLE_SYN, abi.SAMPLE_HANDSHAKE)


class MalformedSample(Exception):
    """Bytes that are no whole sample of the kernel side; the message names the cause."""


class SynSample(NamedTuple):
    """A SYN packet to or from a decky."""

    time_ns: int
    born_ns: int
    key: bytes
    client: int
    """The end that sent it: 0 or 1."""
    signature: int
    """The kernel's syn_signature(): SYNs that have the same one give the same event."""
    syn: SynPacket


class HandshakeSample(NamedTuple):
    """A completed three-way handshake; `time_ns` is the time of the final ACK."""

    time_ns: int
    born_ns: int
    key: bytes
    client: int
    signature: int
    """The same as in SynSample; 0 if the SYN was not seen."""
    syn_sampled: bool
    """The SYN was submitted as a sample of its own."""
    handshake: Handshake


# It is no NamedTuple, because its members are read again and again. If frozen, it is made slower.
@dataclass(slots=True)
class SegmentSample:
    """The payload of a segment that may carry TLS handshake bytes."""

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
    """Sequence number at which TLS begins, if this segment shows it; see `head`."""
    payload: bytes
    """Up to the last clear-text record."""
    claimed: int
    """Payload bytes of the segment by its headers. They exceed `payload` if that was cut."""
    ends: bool = False
    """After this payload the direction is encrypted."""
    hello: int = 0
    """The kernel's hash of a ClientHello, sent here or suppressed, and of its sender; 0 if none.
    Of a head of SSH it is that of all that its end has sent, this segment included."""
    hello_suppressed: bool = False
    """The kernel suppressed the connection's ClientHello, because an equal one was emitted."""
    urgent_seq: int | None = None
    """Sequence number of the byte that the segment's urgent pointer marks; None without URG."""
    syn_data: bool = False
    """It came with the SYN: it counts as far as a SYN-ACK acknowledges it (RFC 7413)."""
    proven: bool = True
    """It is not mid-stream, or both ends were seen to take part in it."""
    headers: int = 40
    """Bytes of its IP and TCP headers."""
    fragmented: bool = False
    """It came in IP fragments."""
    head: str = ""
    """What the first bytes of its end look like, if it is one of the first: of abi.HEAD_KINDS. Then
    `start_seq` is the sequence number of the end's first byte."""
    shared: bool = False
    """With `head`: it may carry TLS as well."""
    before: int = 0
    """With `head`: the kernel's hash of all that its end has sent before, if that was suppressed;
    else 0."""


class SackSample(NamedTuple):
    """An ACK of a decky that holds handshake bytes out of order (RFC 2018, RFC 2883)."""

    time_ns: int
    born_ns: int
    key: bytes
    sender: int
    ack: int
    blocks: tuple[tuple[int, int], ...]
    """Sequence numbers: the first of each block, and the one after its last."""


class EndSample(NamedTuple):
    """The end of a connection."""

    time_ns: int
    born_ns: int
    key: bytes
    record: FlowRecord


class FragmentSample(NamedTuple):
    """An IP fragment that may belong to a decky's TCP."""

    time_ns: int
    ingress: bool
    """Seen at the ingress hook, not at the egress hook."""
    frame: bytes
    """The frame up to the end of the IP packet, or less if the frame was cut."""
    l3_off: int
    """Offset of the IP header."""


class AnomalySample(NamedTuple):
    """A frame that the receiver does not take, or that should not exist."""

    time_ns: int
    born_ns: int
    """0 if it is of no connection."""
    key: bytes
    """Its ports are 0 if the packet has none."""
    sender: int
    client: int
    """0 or 1: the sender if it is of no connection, or if the client is not known."""
    signature: int
    """The kernel's anomaly_signature(): equal ones make equal dedup keys."""
    anomaly: Anomaly


Sample = (
    SynSample
    | HandshakeSample
    | SegmentSample
    | SackSample
    | EndSample
    | FragmentSample
    | AnomalySample
)


class SuppressedHello(NamedTuple):
    """The facts that the kernel keeps of a ClientHello that it suppressed."""

    signature: int
    """The seeded hash of the ClientHello and its sender."""
    session_id: int
    """The seeded hash of its session id; 0 if it has none."""
    end_seq: int
    """Sequence number of the byte after it."""
    seed: int

    def has_session_id(self, session_id: bytes) -> bool:
        """Whether this is its session id, and not an empty one."""
        return bool(session_id) and session_id_hash(session_id, self.seed) == self.session_id


def decode(data: bytes) -> Sample:
    """Decode one ring record; padding after the sample is ignored.

    Raises:
        MalformedSample: the record is shorter than its kind needs, or of an unknown kind.
    """
    if len(data) < abi.SAMPLE_HEAD_BYTES:
        raise MalformedSample("head_short")
    kind = data[abi.SAMPLE_KIND]
    if kind == abi.SAMPLE_SEGMENT:
        return _segment(data)
    if kind in _HALF_OPEN:
        return _half_open(kind, data)
    if kind == abi.SAMPLE_END:
        return _end(data)
    if kind == abi.SAMPLE_FRAGMENT:
        return _fragment(data)
    if kind == abi.SAMPLE_ANOMALY:
        return _anomaly(data)
    if kind == abi.SAMPLE_SACK:
        return _sack(data)
    raise MalformedSample("kind_unknown")


def flow_handshake(value: bytes) -> Handshake:
    """The handshake that a value of the flows or midstream_flows map keeps.

    Raises:
        MalformedSample: the value is too short.
    """
    if len(value) < abi.FLOW_BYTES:
        raise MalformedSample("flow_short")
    (established_ns,) = abi.ESTABLISHED.unpack_from(value)
    syn, syn_retransmits = _syn_packet(value, abi.FLOW_SYN)
    synack, synack_retransmits = _syn_packet(value, abi.FLOW_SYNACK)
    return Handshake(syn, synack, established_ns or None, syn_retransmits, synack_retransmits)


def flow_handshake_sample(value: bytes) -> HandshakeSample:
    """The handshake of a value of the flows map, as the sample of it that was lost.

    Raises:
        MalformedSample: the value is too short.
    """
    handshake = flow_handshake(value)
    (born_ns,) = abi.FLOW_BORN.unpack_from(value)
    return HandshakeSample(
        handshake.established_ns or born_ns,
        born_ns,
        value[abi.FLOW_KEY : abi.FLOW_KEY + abi.FLOW_KEY_BYTES],
        value[abi.FLOW_CLIENT] & 1,
        0,
        value[abi.FLOW_SYN_FLAGS] & abi.SYN_KNOWN != 0,
        handshake,
    )


def flow_suppressed_hello(value: bytes, seed: int) -> SuppressedHello:
    """The facts about a ClientHello that a value of the flows map keeps; `seed` is the kernel's.

    Raises:
        MalformedSample: the value is too short.
    """
    if len(value) < abi.FLOW_BYTES:
        raise MalformedSample("flow_short")
    signature, session_id, end_seq = abi.FLOW_HELLO.unpack_from(value)
    return SuppressedHello(signature, session_id, end_seq, seed)


def flow_record(value: bytes) -> FlowRecord:
    """Decode a struct flow: a value of the flows or midstream_flows map.

    Raises:
        MalformedSample: the value is too short.
    """
    if len(value) < abi.FLOW_BYTES:
        raise MalformedSample("flow_short")
    client, syn_seq, syn_version, synack_seq, synack_ack = abi.FLOW_OPENINGS.unpack_from(value)
    opened = syn_seq if syn_version else (synack_ack - 1) & _SEQ_MASK
    return _record(value, 0, (synack_seq, opened) if client else (opened, synack_seq))


def _end(data: bytes) -> EndSample:
    if len(data) < abi.END_SAMPLE_BYTES:
        raise MalformedSample("end_short")
    time_ns, born_ns, key, *isn = abi.END.unpack_from(data)
    record = _record(data, abi.SAMPLE_HEAD_BYTES, (isn[0], isn[1]))
    return tuple.__new__(EndSample, (time_ns, born_ns, key, record))


def _record(value: bytes, at: int, isn: tuple[int, int]) -> FlowRecord:
    """Decode the struct flow_totals at offset `at`; `isn` are the initial sequence numbers."""
    (
        last_ns,
        min_iat_ns,
        max_iat_ns,
        client,
        close,
        flags,
        rules,
        acked_0,
        acked_1,
        packets_0,
        bytes_0,
        retransmits_0,
        header_0,
        samples_0,
        state_0,
        bits_0,
        side_flags_0,
        packets_1,
        bytes_1,
        retransmits_1,
        header_1,
        samples_1,
        state_1,
        bits_1,
        side_flags_1,
        born_ns,
        established_ns,
        rtt_server_us,
        rtt_client_us,
        rtt_min_us,
        end_sent,
    ) = abi.FLOW_TOTALS.unpack_from(value, at)
    midstream = flags & abi.FLOW_MIDSTREAM != 0
    # The kernel starts with the greatest number, so a lower one was measured.
    measured = min_iat_ns <= max_iat_ns != abi.INTERVALS_UNKNOWN
    accepted_0 = accepted_1 = None
    if not midstream:
        if side_flags_1 & abi.SIDE_ACKED:
            accepted_0 = _accepted(acked_1 - isn[0], side_flags_0, bytes_0)
        if side_flags_0 & abi.SIDE_ACKED:
            accepted_1 = _accepted(acked_0 - isn[1], side_flags_1, bytes_1)
    # This makes a FlowRecord in half the time of a call. So are the other tuples made that each
    # connection has.
    return tuple.__new__(
        FlowRecord,
        (
            born_ns,
            last_ns,
            min_iat_ns if measured else None,
            max_iat_ns if measured else None,
            _close(close, side_flags_0, side_flags_1),
            midstream,
            end_sent != 0,
            client if client in _ENDS else abi.CLIENT_UNKNOWN,
            (
                tuple.__new__(SideRecord, (packets_0, bytes_0, retransmits_0, accepted_0, acked_1)),
                tuple.__new__(SideRecord, (packets_1, bytes_1, retransmits_1, accepted_1, acked_0)),
            ),
            None if rtt_client_us == abi.RTT_UNKNOWN else rtt_client_us,
            None if rtt_server_us == abi.RTT_UNKNOWN else rtt_server_us,
            None if rtt_min_us == abi.RTT_UNKNOWN else rtt_min_us,
            True,  # timed
            midstream and not established_ns,
            not midstream or flags & abi.FLOW_PROVEN != 0,
            (
                0 if samples_0 else _unfinished_head(header_0, state_0, bits_0),
                0 if samples_1 else _unfinished_head(header_1, state_1, bits_1),
            ),
            None if midstream else isn,
            (rules[0] // abi.RULES_RESUMED, rules[1] // abi.RULES_RESUMED),
        ),
    )


def _unfinished_head(chain: int, state: int, bits: int) -> int:
    """FlowRecord.heads of an end without samples: head_unfinished() of bpf/ssh_head.h."""
    if state != abi.TLS_WATCH or bits >> abi.BITS_HEAD != abi.HEAD_SSH:
        return 0
    if chain & abi.SSH_STATE == abi.SSH_FINISHED:
        return 0
    return chain & ~abi.SSH_STATE


def _close(close: int, flags_0: int, flags_1: int) -> str:
    """How a connection ended; one that waits only for the last ACK of a FIN has ended too."""
    both = flags_0 & flags_1 & abi.SIDE_FIN and (flags_0 | flags_1) & abi.SIDE_FIN_ACKED
    if close == abi.CLOSE_NONE and both:
        return "fin"
    return abi.CLOSES[close] if close < len(abi.CLOSES) else ""


def _accepted(advance: int, side_flags: int, sent: int) -> int:
    """Payload bytes of an end that the other one has acknowledged.

    `advance` is from the initial sequence number to the one acknowledged. Sequence numbers wrap
    after 4 GB; the bytes that passed (`sent`) show how often.
    """
    fin = 1 if side_flags & abi.SIDE_FIN_ACKED else 0
    missing = (sent - (advance - 1 - fin)) & _SEQ_MASK
    if missing > _SEQ_HALF:
        missing -= _SEQ_MASK + 1
    return max(sent - missing, 0)


def _segment(data: bytes) -> SegmentSample:
    (
        time_ns,
        born_ns,
        hello,
        before,
        key,
        seq,
        start_seq,
        payload_len,
        payload_off,
        copied,
        sender,
        client,
        flags,
        urgent,
        tcp_flags,
        head,
    ) = abi.SEGMENT.unpack_from(data)
    start = abi.SAMPLE_HEAD_BYTES + payload_off
    end = start + copied
    if end > len(data):
        raise MalformedSample("segment_short")
    # By position, because names cost half as much again.
    return SegmentSample(
        time_ns,
        born_ns,
        key,
        sender & 1,
        client if client in _ENDS else abi.CLIENT_UNKNOWN,
        flags & abi.SAMPLE_FLOW_MIDSTREAM != 0,
        seq,
        start_seq if flags & (abi.SAMPLE_TLS_STARTS | abi.SAMPLE_HEAD) else None,
        data[start:end],
        payload_len,
        flags & abi.SAMPLE_TLS_ENDS != 0,
        hello,
        flags & abi.SAMPLE_HELLO_SUPPRESSED != 0,
        (seq + max(urgent - 1, 0)) & _SEQ_MASK if tcp_flags & URG else None,
        flags & abi.SAMPLE_SYN_DATA != 0,
        flags & (abi.SAMPLE_FLOW_MIDSTREAM | abi.SAMPLE_FLOW_PROVEN) != abi.SAMPLE_FLOW_MIDSTREAM,
        payload_off - _ETHERNET_BYTES,
        flags & abi.SAMPLE_REASSEMBLED != 0,
        abi.HEAD_KINDS[head & 3] if flags & abi.SAMPLE_HEAD else "",
        head & abi.HEAD_SHARED != 0,
        before,
    )


def _sack(data: bytes) -> SackSample:
    time_ns, born_ns, key, ack, at, payload_off, sender = abi.SACK.unpack_from(data)
    end = abi.SAMPLE_HEAD_BYTES + payload_off
    if end > len(data):
        raise MalformedSample("sack_short")
    options = data[abi.SAMPLE_HEAD_BYTES + at : end]
    return SackSample(time_ns, born_ns, key, sender & 1, ack, sack_blocks(options))


def _anomaly(data: bytes) -> AnomalySample:
    if len(data) < abi.ANOMALY_SAMPLE_BYTES:
        raise MalformedSample("anomaly_short")
    (
        time_ns,
        born_ns,
        key,
        seq,
        payload_len,
        sender,
        client,
        signature,
        ack,
        expected_seq,
        expected_ack,
        tcp_flags,
        code,
        known,
    ) = abi.ANOMALY.unpack_from(data)
    technique = KERNEL_TECHNIQUES[code] if code < len(KERNEL_TECHNIQUES) else None
    if technique is None:
        raise MalformedSample("technique_unknown")
    expected = (expected_seq, expected_ack) if known else None
    if has_ports(key):
        evidence = segment_evidence(tcp_flags, seq, ack, payload_len, expected)
    else:
        evidence = "the TCP header was not read"
    return AnomalySample(
        time_ns, born_ns, key, sender & 1, client & 1, signature, Anomaly(technique, evidence)
    )


def _fragment(data: bytes) -> FragmentSample:
    if len(data) < abi.FRAGMENT_SAMPLE_BYTES:
        raise MalformedSample("fragment_short")
    time_ns, frame_len, l3_off, ingress = abi.FRAGMENT.unpack_from(data)
    frame = data[abi.FRAGMENT_SAMPLE_BYTES :][:frame_len]
    if len(frame) < frame_len or l3_off > frame_len:
        raise MalformedSample("fragment_short")
    return FragmentSample(time_ns, ingress != 0, frame, l3_off)


def _half_open(kind: int, data: bytes) -> SynSample | HandshakeSample:
    if len(data) < abi.HALF_OPEN_SAMPLE_BYTES:
        raise MalformedSample("half_open_short")
    (
        time_ns,
        born_ns,
        link,
        key,
        flags,
        ipid_class,
        ipid_samples,
        isn_class,
        isn_samples,
        signature,
        client,
        syn_sampled,
    ) = abi.HALF_OPEN_SAMPLE.unpack_from(data)
    client &= 1
    syn, syn_retransmits = _syn_packet(data, abi.HALF_OPEN_SAMPLE_SYN)
    if syn is not None and (ipid_samples or isn_samples):
        syn.sequences = _sequences(ipid_class, ipid_samples, isn_class, isn_samples)
    if syn is not None and link:
        syn.link = _link(link)
    if kind == abi.SAMPLE_SYN:
        if syn is None:
            raise MalformedSample("syn_missing")
        return tuple.__new__(SynSample, (time_ns, born_ns, key, client, signature, syn))
    synack, synack_retransmits = _syn_packet(data, abi.HALF_OPEN_SAMPLE_SYNACK)
    established_ns = None if flags & abi.SAMPLE_REASSEMBLED else time_ns
    handshake = Handshake(syn, synack, established_ns, syn_retransmits, synack_retransmits)
    return tuple.__new__(
        HandshakeSample, (time_ns, born_ns, key, client, signature, syn_sampled != 0, handshake)
    )


# Most sources are behind the same router, and most SYNs are the first of their source.


@lru_cache(maxsize=WORDS)
def _link(link: int) -> Link:
    return Link(link & _MAC_MASK, link >> _MAC_BITS)


@lru_cache(maxsize=WORDS)
def _sequences(ipid_class: int, ipid_samples: int, isn_class: int, isn_samples: int) -> Sequences:
    return Sequences(
        _sequence_class(ipid_class), ipid_samples, _sequence_class(isn_class), isn_samples
    )


def _sequence_class(code: int) -> str:
    return abi.SEQUENCE_CLASSES[code] if code < len(abi.SEQUENCE_CLASSES) else ""


def _syn_packet(data: bytes, at: int) -> tuple[SynPacket | None, int]:
    """The struct syn_packet at an offset, None if none was seen, and its retransmissions."""
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
    # Arguments go by position, in the order of SynPacket, because names cost half as much again.
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
        ip_flags & abi.SYN_OPTIONS_CUT != 0,
        ip_flags & abi.IP_FLAG_REASSEMBLED != 0,
    )
    return syn_packet, retransmits
