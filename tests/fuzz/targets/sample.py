"""sample.decode: a sample of the kernel's, or MalformedSample with a cause that can be counted."""

from __future__ import annotations

from deckwire import abi
from deckwire.opening import Opening
from deckwire.sample import (
    EndSample,
    HandshakeSample,
    MalformedSample,
    SegmentSample,
    SynSample,
    decode,
    flow_handshake,
    flow_record,
)
from fuzz.material import flow_values, ring_records

_CAUSES = {
    "head_short",
    "kind_unknown",
    "segment_short",
    "attempt_short",
    "opening_malformed",
    "syn_missing",
    "flow_short",
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
    for opening in (handshake.syn, handshake.synack):
        _check_opening(opening)
    assert (handshake.rtt_server_us or 0) >= 0
    assert (handshake.rtt_client_us or 0) >= 0


def _check_cause(error: MalformedSample) -> None:
    assert str(error) in _CAUSES


def _check_sample(
    sample: SynSample | HandshakeSample | SegmentSample | EndSample, data: bytes
) -> None:
    assert len(sample.key) == abi.FLOW_KEY_BYTES
    match sample:
        case SegmentSample():
            assert sample.payload in data
            assert sample.sender in (0, 1)
        case SynSample():
            assert sample.client in (0, 1)
            _check_opening(sample.syn)
        case HandshakeSample():
            assert sample.client in (0, 1)
            _check_opening(sample.handshake.syn)
            _check_opening(sample.handshake.synack)
        case EndSample():
            assert sample.record.client in (0, 1, abi.CLIENT_UNKNOWN)


def _check_opening(opening: Opening | None) -> None:
    if opening is not None:
        assert len(opening.options) <= abi.TCP_OPTIONS_BYTES
        assert opening.ip_version in (4, 6)
