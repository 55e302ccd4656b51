"""Classes of IP identifications and initial sequence numbers, against a reference of their own."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from deckwire.abi.samples import HandshakeSample, SynSample
from deckwire.tcp.syn_packet import Sequences
from tests.support.bpf_frames import DECKY, DECKY6, DECKY_B, Talk, ethernet, ipv4, ipv6, tcp
from tests.support.bpf_harness import Kernel, zero
from tests.support.sequences import IP_ID, SEQ, sequence_class

pytestmark = pytest.mark.root

SERIES = 10_000
SEED = 20_261_128


def series(rng: random.Random, modulus: int, count: int) -> list[int]:
    """SYNs of one source: a stack of some kind, now and then with an odd value among them."""
    start = rng.choice([0, 1, modulus - 1, modulus - 3_000, rng.randrange(modulus)])
    kind = rng.randrange(6)
    values = [start]
    for _ in range(count - 1):
        step = (
            0,
            1,
            rng.randint(1, 4_096),
            rng.randint(0, 4_097),
            rng.randrange(modulus),
            rng.choice([4_096, 4_097, modulus - 1]),
        )[kind]
        values.append((values[-1] + step) % modulus)
    if rng.random() < 0.1:
        values[rng.randrange(len(values))] = rng.choice([0, modulus - 1, rng.randrange(modulus)])
    return [0] * len(values) if rng.random() < 0.1 else values


def syn(source: str, number: int, ip_id: int, seq: int) -> bytes:
    """A SYN of a connection of its own."""
    segment = tcp(flags="S", seq=seq, sport=1_024 + number)
    if ":" in source:
        return ethernet(ipv6(segment, source, DECKY6))
    return ethernet(ipv4(segment, source, DECKY, ip_id=ip_id))


def shown(kernel: Kernel) -> list[Sequences | None]:
    return [one.syn.sequences for one in kernel.samples() if isinstance(one, SynSample)]


def test_classes_are_those_of_the_reference(kernel: Kernel) -> None:
    kernel.settings(dedup=0, sequences=1, syn_cost_ns=0)
    rng = random.Random(SEED)
    found: Counter[tuple[str, str]] = Counter()
    for number in range(SERIES):
        count = rng.choice([1, 3, 4, 5, 8, 9, 12])
        ip_ids, seqs = (series(rng, modulus, count) for modulus in (IP_ID, SEQ))
        version = rng.choice([4, 4, 6])
        source = f"10.9.{number >> 8}.{number & 255}" if version == 4 else f"2001:db8:{number:x}::9"
        for at, (ip_id, seq) in enumerate(zip(ip_ids, seqs, strict=True)):
            kernel.feed(syn(source, at, ip_id, seq))
        samples = shown(kernel)
        assert len(samples) == count
        ipid_class = sequence_class(ip_ids, IP_ID) if version == 4 else ""
        isn_class = sequence_class(seqs, SEQ)
        known = min(count, 8)
        expected = (
            Sequences(ipid_class, known if ipid_class else 0, isn_class, known)
            if isn_class
            else None
        )
        assert samples[-1] == expected, (ip_ids, seqs)
        found[ipid_class, isn_class] += 1
        zero(kernel.loaded.maps["half_open_sets"])
    assert len(found) > 15


def test_classes_are_shown_in_every_profile(kernel: Kernel) -> None:
    kernel.settings(dedup=0)
    for number in range(5):
        kernel.feed(syn("192.0.2.9", number, 7, 7 + number))
    assert shown(kernel) == [
        *[None] * 3,
        Sequences("constant", 4, "incremental", 4),
        Sequences("constant", 5, "incremental", 5),
    ]


def test_another_class_is_a_repeat_unless_wanted(kernel: Kernel) -> None:
    """The kernel suppresses what the agent would, and what is suppressed counts for the class."""
    kernel.settings()
    for number in range(12):
        kernel.feed(syn("192.0.2.9", number, 100 + number, 5_000 + number))
    assert shown(kernel) == [None]
    kernel.feed(ethernet(ipv4(tcp(flags="S", sport=9_000, seq=7), "192.0.2.9", DECKY_B)))
    assert shown(kernel) == [Sequences("random", 8, "random", 8)]


def test_suppressed_syns_count_and_a_new_class_is_no_repeat(kernel: Kernel) -> None:
    """The first four SYNs are alike but for their numbers; then a class is known."""
    kernel.settings(sequences=1)
    for number in range(12):
        kernel.feed(syn("192.0.2.9", number, 100 + number, 5_000 + number))
    samples = shown(kernel)
    assert samples == [None, Sequences("incremental", 4, "incremental", 4)]
    kernel.feed(syn("192.0.2.9", 20, 7, 5_100))
    assert shown(kernel) == [Sequences("random", 8, "incremental", 8)]


def test_a_syn_beyond_the_budget_has_no_class(kernel: Kernel) -> None:
    """Its handshake reports it."""
    kernel.settings(sequences=1, syn_burst_ns=0, dedup=0)
    for number in range(4):
        kernel.feed(*Talk(client_port=2_000 + number, client_iss=1_000 + number).opened())
    handshakes = [one for one in kernel.samples() if isinstance(one, HandshakeSample)]
    assert len(handshakes) == 4
    last = handshakes[-1].handshake.syn
    assert last is not None
    assert last.sequences is None


def test_a_retransmission_is_no_sample(kernel: Kernel) -> None:
    kernel.settings(sequences=1, dedup=0)
    for number in range(4):
        frame = syn("192.0.2.9", number, 7, 50 + number)
        kernel.feed(frame, frame, frame)
    assert shown(kernel)[-1] == Sequences("constant", 4, "incremental", 4)


@pytest.mark.parametrize("hosts", [("192.0.2.9", "192.0.2.10"), ("2001:db8::9", "2001:db8::a")])
def test_hosts_of_one_network_do_not_mix(kernel: Kernel, hosts: tuple[str, str]) -> None:
    kernel.settings(sequences=1, dedup=0)
    for number in range(4):
        for at, host in enumerate(hosts):
            kernel.feed(syn(host, number, 7, (50 << 20 * at) + number))
    assert [one.isn_class for one in shown(kernel)[6:] if one] == ["incremental"] * 2


def test_sources_of_one_slot_do_not_mix(kernel: Kernel) -> None:
    """The table of the test has few slots, so a source loses its own to others."""
    kernel.settings(sequences=1, dedup=0, syn_cost_ns=0)
    for number in range(3):
        kernel.feed(syn("192.0.2.9", number, 7, 50 + number))
    for number in range(400):
        kernel.feed(syn(f"10.1.{number >> 8}.{number & 255}", 1, 7, 50))
    kernel.feed(syn("192.0.2.9", 9, 7, 53))
    assert shown(kernel)[-1] is None
