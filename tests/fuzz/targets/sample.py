"""abi.samples.decode: a sample of the kernel, or MalformedSample with a known cause."""

from __future__ import annotations

from deckwire.abi import structs as abi
from deckwire.abi.samples import (
    AnomalySample,
    EndSample,
    FragmentSample,
    HandshakeSample,
    MalformedSample,
    Sample,
    SegmentSample,
    SynSample,
    decode,
    flow_handshake,
    flow_record,
)
from deckwire.tcp.syn_packet import SynPacket
from tests.fuzz.material import flow_values, ring_records

_CAUSES = {
    "head_short",
    "kind_unknown",
    "sack_short",
    "segment_short",
    "fragment_short",
    "half_open_short",
    "syn_packet_malformed",
    "syn_missing",
    "flow_short",
    "end_short",
    "anomaly_short",
    "technique_unknown",
}


def seeds() -> list[bytes]:
    return [*ring_records(), *flow_values()]


def check(data: bytes) -> None:
    try:
        sample = decode(data)
    except MalformedSample as error:
        _check_cause(error)
    else:
        _check_sample(sample, data)
    try:
        record = flow_record(data)
        handshake = flow_handshake(data)
    except MalformedSample as error:
        _check_cause(error)
        return
    assert record.client in (0, 1, abi.CLIENT_UNKNOWN)
    assert record.close in abi.CLOSES
    for syn_packet in (handshake.syn, handshake.synack):
        _check_syn_packet(syn_packet)
    assert (handshake.rtt_server_us or 0) >= 0
    assert (handshake.rtt_client_us or 0) >= 0


def _check_cause(error: MalformedSample) -> None:
    assert str(error) in _CAUSES


def _check_sample(sample: Sample, data: bytes) -> None:
    if not isinstance(sample, FragmentSample):
        assert len(sample.key) == abi.FLOW_KEY_BYTES
    match sample:
        case FragmentSample():
            assert sample.frame in data
            assert 0 <= sample.l3_off <= len(sample.frame)
        case AnomalySample():
            assert sample.sender in (0, 1)
            assert sample.client in (0, 1)
            assert sample.anomaly.evidence.isprintable()
        case SegmentSample():
            assert sample.payload in data
            assert sample.sender in (0, 1)
        case SynSample():
            assert sample.client in (0, 1)
            _check_syn_packet(sample.syn)
        case HandshakeSample():
            assert sample.client in (0, 1)
            _check_syn_packet(sample.handshake.syn)
            _check_syn_packet(sample.handshake.synack)
        case EndSample():
            assert sample.record.client in (0, 1, abi.CLIENT_UNKNOWN)


def _check_syn_packet(syn_packet: SynPacket | None) -> None:
    if syn_packet is not None:
        assert len(syn_packet.options) <= abi.TCP_OPTIONS_BYTES
        assert syn_packet.ip_version in (4, 6)
