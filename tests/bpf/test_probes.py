"""Probes: each kind, its source and its target, what was answered, and which sources stay."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from struct import pack
from threading import Barrier, Thread
from typing import NamedTuple

import pytest

from deckwire.abi.sources import REFUSED_SHIFT, Answer, ProbeKind, Source, Target
from deckwire.abi.structs import PROBE_INLINE
from deckwire.deckies import parse_address
from deckwire.kernel.programs import Program
from tests.support.bpf_frames import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    ESP,
    ETH_ARP,
    FRAGMENT,
    MF,
    STRANGER,
    STRANGER6,
    TALK6,
    TCP,
    UDP,
    Talk,
    ethernet,
    extension,
    fragment,
    ipv4,
    ipv6,
    tcp,
)
from tests.support.bpf_harness import SECOND, Kernel, Wait

pytestmark = pytest.mark.root

ICMP, ICMP6, SCTP, ARP, BROKEN = 1, 58, 132, 0, 255
MAC = bytes.fromhex("020000000002")
SLOTS = 64
"""Sources that the table of these tests has room for, in sets of four."""
OPEN, CLOSED = 1 << Answer.OPEN, 1 << Answer.CLOSED


def ip(payload: bytes, protocol: int, *, six: bool, src: str = "", dst: str = "") -> bytes:
    """A packet to a decky, unless other addresses are given."""
    if six:
        return ipv6(payload, src or CLIENT6, dst or DECKY6, next_header=protocol)
    return ipv4(payload, src or CLIENT, dst or DECKY, protocol=protocol)


def to_decky(payload: bytes, protocol: int, *, six: bool) -> bytes:
    return ethernet(ip(payload, protocol, six=six))


def from_decky(payload: bytes, protocol: int, *, six: bool) -> bytes:
    ends = (DECKY6, CLIENT6) if six else (DECKY, CLIENT)
    return ethernet(ip(payload, protocol, six=six, src=ends[0], dst=ends[1]))


def udp(sport: int, dport: int, data: bytes = b"x") -> bytes:
    return pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def sctp(sport: int, dport: int, chunk: int = 1) -> bytes:
    return pack("!HHIIBBH", sport, dport, 0, 0, chunk, 0, 4)


def icmp(kind: int, code: int = 0, number: int = 7, data: bytes = b"") -> bytes:
    return pack("!BBHHH", kind, code, 0, number, 1) + data


def arp(sender: str, target: str, op: int = 1) -> bytes:
    addresses = [socket.inet_aton(one) for one in (sender, target)]
    packet = pack("!HHBBH", 1, 0x0800, 6, 4, op) + MAC + addresses[0] + bytes(6) + addresses[1]
    return ethernet(packet.ljust(46, b"\0"), ETH_ARP)


def neighbour(kind: int, target: str, src: str, dst: str) -> bytes:
    body = icmp(kind, number=0)[:4] + bytes(4) + socket.inet_pton(socket.AF_INET6, target)
    return ethernet(ipv6(body, src, dst, next_header=ICMP6))


def solicited_node(address: str) -> str:
    packed = socket.inet_pton(socket.AF_INET6, address)
    group = bytes.fromhex("ff0200000000000000000001ff") + packed[13:]
    return socket.inet_ntop(socket.AF_INET6, group)


def packed(address: str) -> bytes:
    return parse_address(address).packed if ":" in address else mapped(address)


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)


def kinds(one: Target) -> set[ProbeKind]:
    return {kind for kind in ProbeKind if one.kinds >> kind & 1}


class Probe(NamedTuple):
    about: str
    payload: bytes
    protocol: int
    kind: ProbeKind
    where: tuple[int, int]
    """Protocol and port of the target."""


def flags(letters: str) -> bytes:
    return tcp(flags=letters, sport=50_000, dport=81, ack=1 if "A" in letters else 0)


PROBES = [
    Probe("syn", flags("S"), TCP, ProbeKind.SYN, (TCP, 81)),
    Probe("syn with ece and cwr", flags("SEC"), TCP, ProbeKind.SYN, (TCP, 81)),
    Probe("fin", flags("F"), TCP, ProbeKind.FIN, (TCP, 81)),
    Probe("null", flags(""), TCP, ProbeKind.NULL, (TCP, 81)),
    Probe("null but for ece", flags("E"), TCP, ProbeKind.NULL, (TCP, 81)),
    Probe("xmas", flags("FPU"), TCP, ProbeKind.XMAS, (TCP, 81)),
    Probe("maimon", flags("FA"), TCP, ProbeKind.MAIMON, (TCP, 81)),
    Probe("ack", flags("A"), TCP, ProbeKind.ACK, (TCP, 81)),
    Probe("syn-ack", flags("SA"), TCP, ProbeKind.SYN_ACK, (TCP, 81)),
    Probe("rst", flags("R"), TCP, ProbeKind.RST, (TCP, 81)),
    Probe("syn and rst", flags("SR"), TCP, ProbeKind.RST, (TCP, 81)),
    Probe("push alone", flags("P"), TCP, ProbeKind.MALFORMED, (TCP, 81)),
    Probe("udp", udp(50_000, 53), UDP, ProbeKind.UDP, (UDP, 53)),
    Probe("udp, cut", udp(50_000, 53)[:6], UDP, ProbeKind.MALFORMED, (UDP, 0)),
    Probe("sctp", sctp(50_000, 2_905), SCTP, ProbeKind.SCTP, (SCTP, 2_905)),
    Probe("sctp, cut", sctp(50_000, 2_905)[:11], SCTP, ProbeKind.MALFORMED, (SCTP, 0)),
    Probe("esp", bytes(16), ESP, ProbeKind.OTHER, (ESP, 0)),
    Probe("no payload", b"", 99, ProbeKind.OTHER, (99, 0)),
    Probe("tcp, short header", tcp(offset=4), TCP, ProbeKind.MALFORMED, (TCP, 0)),
    Probe("tcp, cut", tcp()[:10], TCP, ProbeKind.MALFORMED, (TCP, 0)),
]
PROBES4 = [
    Probe("echo", icmp(8), ICMP, ProbeKind.ICMP_ECHO, (ICMP, 0)),
    Probe("timestamp", icmp(13), ICMP, ProbeKind.ICMP_TIMESTAMP, (ICMP, 0)),
    Probe("address mask", icmp(17), ICMP, ProbeKind.ICMP_OTHER, (ICMP, 0)),
    Probe("echo reply to nobody", icmp(0), ICMP, ProbeKind.ICMP_OTHER, (ICMP, 0)),
    Probe("icmp, cut", icmp(8)[:7], ICMP, ProbeKind.MALFORMED, (ICMP, 0)),
    Probe("icmp of the other family", icmp(128), ICMP6, ProbeKind.OTHER, (ICMP6, 0)),
]
PROBES6 = [
    Probe("echo", icmp(128), ICMP6, ProbeKind.ICMP6, (ICMP6, 0)),
    Probe("node information", icmp(139), ICMP6, ProbeKind.ICMP6, (ICMP6, 0)),
    Probe("icmp, cut", icmp(128)[:7], ICMP6, ProbeKind.MALFORMED, (ICMP6, 0)),
    Probe("icmp of the other family", icmp(8), ICMP, ProbeKind.OTHER, (ICMP, 0)),
]


def cases() -> list[object]:
    both = [(False, one) for one in PROBES + PROBES4] + [(True, one) for one in PROBES + PROBES6]
    return [pytest.param(six, one, id=f"{one.about}, v{6 if six else 4}") for six, one in both]


def the_source(kernel: Kernel, address: str) -> Source:
    sources = kernel.sources()
    assert list(sources) == [address]
    return sources[address]


@pytest.mark.parametrize(("six", "probe"), cases())
def test_a_probe_has_its_source_its_kind_and_its_target(
    kernel: Kernel, six: bool, probe: Probe
) -> None:
    kernel.feed(*[to_decky(probe.payload, probe.protocol, six=six)] * 3)
    source = the_source(kernel, CLIENT6 if six else CLIENT)
    assert source.probes == {probe.kind: 3}
    assert source.mac == MAC
    assert not source.proven
    assert source.targets_lost == 0
    decky = packed(DECKY6 if six else DECKY)
    bits = 1 << probe.kind
    assert source.targets == (Target(decky, *probe.where, bits, 0, source.first_ns),)
    assert source.last_ns - source.first_ns == 2_000_000


MALFORMED = {
    "v4, header length": ethernet(ipv4(tcp(), ihl=4)),
    "v4, total length": ethernet(ipv4(tcp(), total=19)),
    "v6, hop-by-hop options not first": ethernet(
        ipv6(extension(60, 0, extension(0, TCP, tcp())), next_header=60)
    ),
    "v6, too many headers": ethernet(
        ipv6(extension(60, 60, b"").ljust(8) * 17 + tcp(), next_header=60)
    ),
}


@pytest.mark.parametrize("about", MALFORMED)
def test_a_malformed_packet_is_a_probe(kernel: Kernel, about: str) -> None:
    kernel.feed(MALFORMED[about])
    source = the_source(kernel, CLIENT6 if "v6" in about else CLIENT)
    assert source.probes == {ProbeKind.MALFORMED: 1}
    assert [one[1:3] for one in source.targets] == [(BROKEN, 0)]


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["v4", "v6"])
def test_a_handshake_proves_the_source(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, b"GET"), *talk.closed(4))
    source = the_source(kernel, talk.client)
    assert source.proven
    assert source.probes == {ProbeKind.SYN: 1, ProbeKind.CONNECT: 1}
    (target,) = source.targets
    assert kinds(target) == {ProbeKind.SYN, ProbeKind.CONNECT}
    assert target.answers == OPEN


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["v4", "v6"])
def test_a_reset_after_the_synack_is_no_probe_of_its_own(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(talk.c("S"), talk.s("SA", 0, 1), talk.c("R", 1))
    source = the_source(kernel, talk.client)
    assert source.probes == {ProbeKind.SYN: 1}
    assert [one.answers for one in source.targets] == [OPEN]


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["v4", "v6"])
@pytest.mark.parametrize("letters", ["S", "F", "", "FPU", "FA", "A"])
def test_a_reset_of_the_decky_shows_a_closed_port(kernel: Kernel, talk: Talk, letters: str) -> None:
    kernel.feed(talk.c(letters))
    kernel.feed(talk.s("RA", 0, 1), egress=True)
    source = the_source(kernel, talk.client)
    assert [(one.port, one.answers) for one in source.targets] == [(443, CLOSED)]
    assert sum(source.probes.values()) == 1


def refusal(letters: str, seq: int, *, six: bool, dport: int = 50_000) -> bytes:
    """A RST of the decky's port 81."""
    return from_decky(tcp(flags=letters, sport=81, dport=dport, seq=seq, ack=1), TCP, six=six)


REFUSED = CLOSED | 1 << Answer.REFUSED


def looks(*answers: Answer, six: bool = False) -> int:
    """The bits of a refusal with these looks, which only one over IPv4 has."""
    return REFUSED if six else REFUSED | sum(1 << answer for answer in answers)


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize(
    ("about", "letters", "seq", "answers"),
    [
        ("of a SYN to a closed port", "RA", 0, REFUSED),
        ("of a wrong ACK", "R", 1, CLOSED),
        ("of a wrong ACK with number 0", "R", 0, CLOSED),
        ("of a connection", "RA", 77, CLOSED),
    ],
)
def test_a_refusal_is_the_answer_to_a_syn(
    kernel: Kernel, six: bool, about: str, letters: str, seq: int, answers: int
) -> None:
    kernel.feed(to_decky(flags("S"), TCP, six=six))
    for _ in range(2):
        kernel.feed(refusal(letters, seq, six=six), egress=True)
    source = the_source(kernel, CLIENT6 if six else CLIENT)
    if answers & 1 << Answer.REFUSED:
        answers = looks(Answer.TTL_64, Answer.ID, six=six)
    assert [one.answers for one in source.targets] == [answers], about


@pytest.mark.parametrize(
    ("ttl", "begins"),
    [
        *((ttl, Answer.TTL_64) for ttl in (1, 64)),
        *((ttl, Answer.TTL_128) for ttl in (65, 128)),
        *((ttl, Answer.TTL_255) for ttl in (129, 255)),
    ],
)
@pytest.mark.parametrize("ip_id", [0, 1, 0x100])
def test_the_looks_of_a_refusal_are_kept(
    kernel: Kernel, ttl: int, begins: Answer, ip_id: int
) -> None:
    rst = tcp(flags="RA", sport=81, dport=50_000, seq=0, ack=1)
    kernel.feed(to_decky(flags("S"), TCP, six=False))
    kernel.feed(ethernet(ipv4(rst, DECKY, CLIENT, ttl=ttl, ip_id=ip_id)), egress=True)
    (target,) = the_source(kernel, CLIENT).targets
    assert target.answers == looks(begins, Answer.ID if ip_id else Answer.NO_ID)


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("others", [0, PROBE_INLINE], ids=["inside", "outside"])
def test_the_time_of_a_refusal_is_kept_in_units(kernel: Kernel, six: bool, others: int) -> None:
    """In the source's slot, and in the table of further targets."""
    ports = [tcp(flags="S", sport=50_000, dport=1_000 + n) for n in range(others)]
    kernel.feed(*(to_decky(one, TCP, six=six) for one in ports))
    after = []
    for wait_s in (0, 5, 30, 3_000):
        kernel.feed(Wait(wait_s * SECOND), to_decky(flags("S"), TCP, six=six))
        kernel.feed(refusal("RA", 0, six=six), egress=True)
        source = the_source(kernel, CLIENT6 if six else CLIENT)
        (target,) = [one for one in source.targets if one.port == 81]
        assert target.answers == looks(Answer.TTL_64, Answer.ID, six=six)
        after.append(target.refused_ns - target.first_ns >> REFUSED_SHIFT)
    # What has no room in a byte is not taken in.
    assert after == [0, 0, 4, 4]


def unreachable(kind: int, code: int, probe: bytes, protocol: int, *, six: bool) -> bytes:
    error = icmp(kind, code, number=0, data=ip(probe, protocol, six=six))
    return from_decky(error, ICMP6 if six else ICMP, six=six)


class Exchange(NamedTuple):
    about: str
    six: bool
    probe: bytes
    protocol: int
    answer: bytes
    """The decky's frame."""
    answers: int


UDP_PROBE, SCTP_PROBE = udp(50_000, 53), sctp(50_000, 2_905)
EXCHANGES = [
    Exchange(f"{about}, v{6 if six else 4}", six, probe, protocol, answer, answers)
    for six in (False, True)
    for about, probe, protocol, answer, answers in (
        ("udp open", UDP_PROBE, UDP, from_decky(udp(53, 50_000), UDP, six=six), OPEN),
        (
            "udp closed",
            UDP_PROBE,
            UDP,
            unreachable(1 if six else 3, 4 if six else 3, UDP_PROBE, UDP, six=six),
            CLOSED,
        ),
        ("sctp open", SCTP_PROBE, SCTP, from_decky(sctp(2_905, 50_000, 2), SCTP, six=six), OPEN),
        (
            "sctp closed",
            SCTP_PROBE,
            SCTP,
            from_decky(sctp(2_905, 50_000, 6), SCTP, six=six),
            CLOSED,
        ),
        (
            "protocol closed",
            b"",
            99,
            unreachable(4 if six else 3, 1 if six else 2, b"", 99, six=six),
            CLOSED,
        ),
        (
            "echo",
            icmp(128 if six else 8),
            ICMP6 if six else ICMP,
            from_decky(icmp(129 if six else 0), ICMP6 if six else ICMP, six=six),
            OPEN,
        ),
    )
]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[one.about for one in EXCHANGES])
def test_an_answer_without_tcp(kernel: Kernel, exchange: Exchange) -> None:
    kernel.feed(to_decky(exchange.probe, exchange.protocol, six=exchange.six))
    kernel.feed(exchange.answer, egress=True)
    source = the_source(kernel, CLIENT6 if exchange.six else CLIENT)
    assert [one.answers for one in source.targets] == [exchange.answers]
    assert sum(source.probes.values()) == 1


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_an_error_about_another_target_is_no_answer(kernel: Kernel, six: bool) -> None:
    kernel.feed(to_decky(UDP_PROBE, UDP, six=six))
    other = unreachable(1 if six else 3, 4 if six else 3, udp(50_000, 54), UDP, six=six)
    kernel.feed(other, egress=True)
    source = the_source(kernel, CLIENT6 if six else CLIENT)
    assert [(one.port, one.answers) for one in source.targets] == [(53, 0)]


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_a_reply_to_a_decky_is_no_probe(kernel: Kernel, six: bool) -> None:
    """A decky asks a name server, and pings it. Later the same frames are probes."""
    protocol = ICMP6 if six else ICMP
    echo, reply = (128, 129) if six else (8, 0)
    kernel.feed(
        from_decky(udp(50_000, 53), UDP, six=six),
        from_decky(icmp(echo), protocol, six=six),
        egress=True,
    )
    replies = [
        to_decky(udp(53, 50_000), UDP, six=six),
        to_decky(icmp(reply), protocol, six=six),
    ]
    kernel.feed(*replies)
    assert kernel.sources() == {}
    kernel.feed(to_decky(udp(53, 50_001), UDP, six=six))
    assert the_source(kernel, CLIENT6 if six else CLIENT).probes == {ProbeKind.UDP: 1}
    kernel.feed(Wait(600 * SECOND), *replies)
    source = the_source(kernel, CLIENT6 if six else CLIENT)
    expected = {ProbeKind.UDP: 2, (ProbeKind.ICMP6 if six else ProbeKind.ICMP_OTHER): 1}
    assert source.probes == expected


def test_errors_about_packets_of_a_decky_are_no_probes(kernel: Kernel) -> None:
    kernel.feed(to_decky(icmp(3, 1, data=bytes(28)), ICMP, six=False))
    kernel.feed(to_decky(icmp(1, 4, data=bytes(48)), ICMP6, six=True))
    assert kernel.sources() == {}


def test_arp_requests_for_deckies_are_probes(kernel: Kernel) -> None:
    kernel.feed(arp(CLIENT, DECKY), arp(CLIENT, STRANGER), arp(CLIENT, DECKY_B))
    kernel.feed(arp(CLIENT, CLIENT), arp(STRANGER, CLIENT, op=2))
    kernel.feed(arp(DECKY_B, CLIENT, op=2), egress=True)
    source = the_source(kernel, CLIENT)
    assert source.probes == {ProbeKind.ARP: 2}
    assert [(one.decky, *one[1:3], one.answers) for one in source.targets] == [
        (mapped(DECKY), ARP, 0, 0),
        (mapped(DECKY_B), ARP, 0, OPEN),
    ]


def test_neighbour_solicitations_for_deckies_are_probes(kernel: Kernel) -> None:
    multicast = solicited_node(DECKY6)
    kernel.feed(
        neighbour(135, DECKY6, CLIENT6, multicast),
        neighbour(135, DECKY6, CLIENT6, DECKY6),
        neighbour(135, STRANGER6, CLIENT6, solicited_node(STRANGER6)),
        neighbour(135, STRANGER6, CLIENT6, multicast),
        neighbour(135, DECKY6, "::", multicast),
    )
    kernel.feed(neighbour(136, DECKY6, DECKY6, CLIENT6), egress=True)
    source = the_source(kernel, CLIENT6)
    assert source.probes == {ProbeKind.ARP: 2}
    assert [(one.decky, *one[1:3], one.answers) for one in source.targets] == [
        (packed(DECKY6), ARP, 0, OPEN)
    ]


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_the_first_fragment_of_a_datagram_is_the_probe(kernel: Kernel, six: bool) -> None:
    if six:
        first = ipv6(fragment(UDP, udp(9, 53), more=True), next_header=FRAGMENT)
        later = ipv6(fragment(UDP, udp(9, 54), offset=9), next_header=FRAGMENT)
    else:
        first = ipv4(udp(9, 53), protocol=UDP, fragment=MF)
        later = ipv4(udp(9, 54), protocol=UDP, fragment=9)
    kernel.feed(ethernet(first), ethernet(later))
    source = the_source(kernel, CLIENT6 if six else CLIENT)
    assert [(one.port, kinds(one)) for one in source.targets] == [(53, {ProbeKind.UDP})]


def test_two_sources_do_not_mix(kernel: Kernel) -> None:
    first, second = Talk(), Talk("192.0.2.10", client_port=40_001)
    kernel.feed(first.c("S"), second.c("F"), *second.opened())
    sources = kernel.sources()
    assert sources[first.client].probes == {ProbeKind.SYN: 1}
    assert not sources[first.client].proven
    found = {ProbeKind.FIN: 1, ProbeKind.SYN: 1, ProbeKind.CONNECT: 1}
    assert sources[second.client].probes == found
    assert sources[second.client].proven


def test_a_decky_that_scans_its_neighbour_is_a_source(kernel: Kernel) -> None:
    talk = Talk(DECKY_B)
    kernel.feed(talk.c("S"), talk.s("SA", 0, 1), talk.c("R", 1))
    source = the_source(kernel, DECKY_B)
    assert source.probes == {ProbeKind.SYN: 1}
    assert [one.answers for one in source.targets] == [OPEN]


@pytest.mark.parametrize("letters", ["S", "F"])
def test_a_decky_answers_a_decky(kernel: Kernel, letters: str) -> None:
    talk = Talk(DECKY_B)
    kernel.feed(talk.c(letters), talk.s("RA", 0, 1))
    source = the_source(kernel, DECKY_B)
    assert [one.answers for one in source.targets] == [CLOSED]
    assert sum(source.probes.values()) == 1


@pytest.mark.parametrize(
    ("ask", "reply", "protocol"),
    [(udp(9, 53), udp(53, 9), UDP), (icmp(8), icmp(0), ICMP), (sctp(9, 7), sctp(7, 9, 2), SCTP)],
    ids=["udp", "icmp", "sctp"],
)
def test_the_reply_of_a_decky_to_a_decky_is_no_probe(
    kernel: Kernel, ask: bytes, reply: bytes, protocol: int
) -> None:
    kernel.feed(ethernet(ip(ask, protocol, six=False, src=DECKY_B, dst=DECKY)))
    kernel.feed(ethernet(ip(reply, protocol, six=False, src=DECKY, dst=DECKY_B)))
    assert the_source(kernel, DECKY_B).probes


def test_what_a_decky_opens_elsewhere_is_no_probe(kernel: Kernel) -> None:
    talk = Talk(DECKY, STRANGER)
    kernel.feed(*talk.opened(), *talk.closed())
    kernel.feed(Talk(DECKY, STRANGER, client_port=40_001).c("S"))
    sources = kernel.sources()
    assert [(one.probes, one.targets) for one in sources.values()] == [({}, ())]
    assert kernel.counters().get("probes", 0) == 0


def test_segments_of_connections_are_no_probes(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, b"data"), talk.s("PA", 1, 5, b"reply"))
    kernel.feed(talk.c("A", 5, 6), *talk.closed(5, 6), talk.c("R", 6))
    kernel.feed(Talk(client_port=40_001).c("PA", 9, 9, b"mid-stream"))
    assert the_source(kernel, CLIENT).probes == {ProbeKind.SYN: 1, ProbeKind.CONNECT: 1}


def syns(source: str, ports: Sequence[int], decky: str = DECKY) -> list[bytes]:
    return [ethernet(ipv4(tcp(dport=port, seq=port * 7), source, decky)) for port in ports]


def test_every_target_of_a_scan_is_kept_in_order(kernel: Kernel) -> None:
    """Two sources at once, two deckies each; more targets than the slots of the sources take."""
    ports = [1 + 7 * n % 211 for n in range(211)]
    for port in ports:
        kernel.feed(*syns("192.0.2.1", [port]), *syns("192.0.2.2", [port], DECKY_B))
    kernel.feed(*syns("192.0.2.1", ports))
    sources = kernel.sources()
    assert [one.port for one in sources["192.0.2.1"].targets] == ports
    assert [one.port for one in sources["192.0.2.2"].targets] == ports
    assert {one.decky for one in sources["192.0.2.2"].targets} == {mapped(DECKY_B)}
    assert sources["192.0.2.1"].probes == {ProbeKind.SYN: 422}
    assert [one.targets_lost for one in sources.values()] == [0, 0]


def test_an_answer_finds_a_target_outside_of_the_slot(kernel: Kernel) -> None:
    talks = [Talk(server_port=port) for port in range(100, 120)]
    kernel.feed(*(talk.c("S") for talk in talks))
    kernel.feed(talks[-1].s("SA", 0, 1), talks[-2].s("RA", 0, 1), egress=True)
    answers = [one.answers for one in the_source(kernel, CLIENT).targets]
    assert answers == [*[0] * 18, CLOSED, OPEN]


def test_targets_beyond_the_bound_are_counted(kernel: Kernel) -> None:
    """Of 6,000 targets at most 4,096 may be kept, and the tests' table is smaller still."""
    kernel.settings(dedup=0)
    for first in range(1, 6_001, 500):
        kernel.feed(*syns(CLIENT, range(first, first + 500)))
        kernel.drop_frames()
        kernel.loaded.rings.drain()
    source = the_source(kernel, CLIENT)
    assert source.probes == {ProbeKind.SYN: 6_000}
    assert source.targets_lost == 6_000 - len(source.targets) > 0
    assert kernel.counters()["probe_targets_lost"] == source.targets_lost
    assert len({one.port for one in source.targets}) == len(source.targets) > 1_000
    kernel.received = kernel.counters().get("samples_submitted", 0)


def flood(kernel: Kernel, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        kernel.feed(*syns(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", [80]))


def test_a_flood_from_forged_sources_pushes_out_no_proven_source(kernel: Kernel) -> None:
    kernel.feed(*Talk().opened())
    kernel.feed(*syns("192.0.2.77", range(1, PROBE_INLINE + 2)))
    flood(kernel, 2_000)
    sources = kernel.sources()
    assert sources[CLIENT].proven
    assert len(sources["192.0.2.77"].targets) == PROBE_INLINE + 1
    assert len(sources) <= SLOTS
    counters = kernel.counters()
    assert counters["probes"] == 2_000 + 2 + PROBE_INLINE + 1
    assert (
        counters["probe_sources_evicted"] + len(sources) + counters.get("probes_unrecorded", 0)
        == 2_000 + 2
    )


def test_sources_with_few_targets_fill_no_table_of_targets(kernel: Kernel) -> None:
    flood(kernel, 500)
    table = kernel.loaded.maps["probe_targets"]
    assert not any(any(value) for _, value in table.items())


def test_a_full_set_refuses_new_sources_until_one_was_silent(kernel: Kernel) -> None:
    """All slots have sources that completed a handshake. The numbers are of one set each."""
    clients = [f"10.7.{number >> 8}.{number & 255}" for number in range(600)]
    kernel.settings(dedup=0)
    for number, client in enumerate(clients):
        kernel.feed(*Talk(client, client_port=1_024 + number).opened())
    proven = kernel.sources()
    assert len(proven) == SLOTS
    assert all(one.proven for one in proven.values())
    before = kernel.counters()
    kernel.feed(*syns("192.0.2.1", [80]))
    after = kernel.counters()
    assert after["probes_unrecorded"] == before["probes_unrecorded"] + 1
    assert kernel.sources().keys() == proven.keys()
    kernel.feed(Wait(601 * SECOND), *syns("192.0.2.1", [80]))
    assert "192.0.2.1" in kernel.sources()


def test_a_source_that_lost_its_slot_begins_again(kernel: Kernel) -> None:
    """Targets of its earlier turn are not its own any more, and their room is used again."""
    kernel.feed(*syns("192.0.2.1", range(1, 100)))
    first = kernel.sources()["192.0.2.1"]
    kernel.feed(Wait(60 * SECOND))
    kernel.now_ns += 60 * SECOND
    flood(kernel, 1_000)
    assert "192.0.2.1" not in kernel.sources()
    for turn in range(30):
        kernel.feed(*syns(f"192.0.2.{100 + turn}", range(1, 100)))
        kernel.now_ns += 60 * SECOND
        flood(kernel, 100, 1_000 * turn)
    kernel.feed(*syns("192.0.2.1", range(200, 300)))
    again = kernel.sources()["192.0.2.1"]
    assert again.first_ns > first.first_ns
    assert [one.port for one in again.targets] == list(range(200, 300))
    assert again.targets_lost == 0


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("payload", [b"x", b""], ids=["data", "no data"])
def test_a_connection_that_flows_has_no_room_for_is_one_probe(
    kernel: Kernel, talk: Talk, payload: bytes
) -> None:
    """Each segment completes its handshake again."""
    kernel.settings(flows_per_source=1)
    other = replace(talk, client_port=41_000)
    kernel.feed(*talk.opened(), *other.opened())
    sent = [other.c("PA", 1 + n * len(payload), 1, payload) for n in range(10)]
    kernel.feed(*sent, other.c("FA", 1 + 10 * len(payload), 1))
    (source,) = kernel.sources().values()
    assert source.probes == {ProbeKind.SYN: 2, ProbeKind.CONNECT: 2}


def test_two_cpus_that_record_at_once_lose_nothing_silently(kernel: Kernel) -> None:
    """Each with targets and sources of its own, in the same sets. No lock stays taken."""
    cpus = sorted(os.sched_getaffinity(0) | set(range(os.cpu_count() or 1)))[:2]
    if len(cpus) < 2:
        pytest.skip("one CPU")
    kernel.settings(dedup=0, syn_cost_ns=SECOND, syn_burst_ns=0)
    kernel.feed(*syns(CLIENT, [1]))
    fd = kernel.loaded.programs["tc_ingress"].fd
    ports = {cpu: range(1 + 200 * number, 201 + 200 * number) for number, cpu in enumerate(cpus)}
    ready = Barrier(len(cpus))

    def run(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        frames = [
            frame
            for port in ports[cpu]
            for frame in (*syns(CLIENT, [port]), *syns(f"10.1.{port >> 8}.{port & 255}", [80]))
        ]
        # One is for one thread: its frame and its request have one place in memory.
        program = Program("tc_ingress", os.dup(fd))
        ready.wait()
        for frame in frames:
            program.test_run(frame, tstamp=kernel.now_ns)
        program.close()

    threads = [Thread(target=run, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kernel.run += 2 * 400
    source = kernel.sources()[CLIENT]
    assert source.probes == {ProbeKind.SYN: 401}
    assert {one.port for one in source.targets} <= set(range(1, 401))
    assert len(source.targets) + source.targets_lost >= 400
    counters = kernel.counters()
    assert counters["probes"] == 801
    assert counters.get("probe_targets_lost", 0) >= source.targets_lost
    for name, lock in (("source_sets", 36), ("probe_targets", 0)):
        for _, value in kernel.loaded.maps[name].items():
            assert value[lock : lock + 4] == bytes(4)
