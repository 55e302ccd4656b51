"""How sources choose IP identifications and initial sequence numbers, in the contract's words.

This code shares nothing with the agent or its programs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address

from tests.support.fingerprint_frames import Sent

IP_ID, SEQ = 1 << 16, 1 << 32
"""Moduli of the two fields."""
_LAST = 8
_LEAST = 4

Four = tuple[str, int, str, int]
"""Source address and port, destination address and port."""


def sequence_class(values: Sequence[int], modulus: int) -> str:
    """The class of the last values of a source, one after another; "" for too few."""
    last = values if len(values) <= _LAST else values[len(values) - _LAST :]
    if len(last) < _LEAST:
        return ""
    zeros = equal = rising = True
    previous = None
    for value in last:
        zeros = zeros and value == 0
        if previous is not None:
            equal = equal and value == previous
            step = value - previous
            if step < 0:
                step += modulus
            rising = rising and 1 <= step <= 4_096
        previous = value
    return "zero" if zeros else "constant" if equal else "incremental" if rising else "random"


def sequence_fields(syns: Iterable[Sent]) -> dict[Four, list[dict[str, object]]]:
    """The four fields in the event of each SYN, by its 4-tuple, in the order of the SYNs.

    A SYN that repeats the last one of its 4-tuple is a retransmission, and has no event.
    """
    ip_ids: dict[bytes, list[int]] = defaultdict(list)
    seqs: dict[bytes, list[int]] = defaultdict(list)
    last: dict[Four, int] = {}
    found: dict[Four, list[dict[str, object]]] = defaultdict(list)
    for syn in syns:
        packet = syn.syn_packet
        four = _text(syn.source), syn.sport, _text(syn.destination), syn.dport
        if last.get(four) == packet.seq:
            continue
        last[four] = packet.seq
        ip_ids[syn.source].append(packet.ip_id)
        seqs[syn.source].append(packet.seq)
        known = min(len(seqs[syn.source]), _LAST)
        fields: dict[str, object] = {}
        if isn_class := sequence_class(seqs[syn.source], SEQ):
            fields = {"isn_class": isn_class, "isn_samples": known}
            if packet.ip_version == 4:
                fields["ipid_class"] = sequence_class(ip_ids[syn.source], IP_ID)
                fields["ipid_samples"] = known
        found[four].append(fields)
    return found


def shown(fields: dict[str, object]) -> dict[str, object]:
    """These four fields of an event, as far as it has them."""
    names = ("ipid_class", "ipid_samples", "isn_class", "isn_samples")
    return {name: fields[name] for name in names if name in fields}


def _text(packed: bytes) -> str:
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)
