"""SYNs: which are sampled, which are suppressed and by whom, and what a signature covers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import HandshakeSample, SynSample
from deckwire.tcp.syn_packet import Link
from tests.support.bpf_frames import (
    DECKY,
    DECKY6,
    DECKY_B,
    DF,
    DSTOPTS,
    LINUX_OPTIONS,
    MSS,
    RESERVED,
    TALK6,
    TCP,
    TIMESTAMP,
    Talk,
    ethernet,
    extension,
    ipv4,
    ipv6,
    tcp,
)
from tests.support.bpf_harness import MS, SECOND, Kernel, Wait, zero

pytestmark = pytest.mark.root

TALKS = pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
TENTATIVE_NS = SECOND
"""SYN_TENTATIVE_NS: how long the kernel suppresses before the agent has decided."""


def syn4(options: bytes = LINUX_OPTIONS, segment: dict[str, Any] | None = None, **ip: Any) -> bytes:
    return ethernet(ipv4(tcp(options=options, **(segment or {})), **ip))


def syn6(options: bytes = LINUX_OPTIONS, segment: dict[str, Any] | None = None, **ip: Any) -> bytes:
    return ethernet(ipv6(tcp(options=options, **(segment or {})), **ip))


def signatures(kernel: Kernel, *frames: bytes) -> list[int]:
    """The signature of each SYN, as if it were the first of its connection."""
    kernel.settings(dedup=0)
    for frame in frames:
        kernel.feed(frame)
        zero(kernel.loaded.maps["half_open_sets"])
    found = [sample for sample in kernel.samples() if isinstance(sample, SynSample)]
    assert len(found) == len(frames)
    return [sample.signature for sample in found]


# --- what the signature covers ---


def stamped(own: int, echo: int) -> bytes:
    return MSS + b"\x04\x02\x08\x0a" + own.to_bytes(4, "big") + echo.to_bytes(4, "big")


SAME = {
    "another timestamp": (syn4(stamped(1, 0)), syn4(stamped(0xFFFF_FFFF, 0))),
    "another echoed timestamp": (syn4(stamped(1, 1)), syn4(stamped(1, 0x0100_0000))),
    "another source port": (syn4(), syn4(segment={"sport": 40_001})),
    "another destination port": (syn4(), syn4(segment={"dport": 22})),
    "another sequence number": (syn4(), syn4(segment={"seq": 0xABCD_EF01})),
    "another IP id": (syn4(ip_id=5), syn4(ip_id=6)),
    "another acknowledgement, if not 0": (
        syn4(segment={"ack": 5}),
        syn4(segment={"ack": 6}),
    ),
    "another urgent pointer, if not 0": (
        syn4(segment={"urgent": 5}),
        syn4(segment={"urgent": 6}),
    ),
    "another flow label, if not 0": (
        syn6(flow_label=1),
        syn6(flow_label=2),
    ),
    "a timestamp after the end of options": (
        syn4(b"\x00\x00\x00\x00"),
        syn4(b"\x00\x00\x00\x00"),
    ),
}

OTHER = {
    "another decky": (
        ethernet(ipv4(tcp(), dst=DECKY)),
        ethernet(ipv4(tcp(), dst=DECKY_B)),
    ),
    "another source": (ethernet(ipv4(tcp())), ethernet(ipv4(tcp(), src="192.0.2.10"))),
    "another IPv6 source": (
        ethernet(ipv6(tcp())),
        ethernet(ipv6(tcp(), src="2001:db8:1::a")),
    ),
    "the TTL": (syn4(ttl=64), syn4(ttl=63)),
    "the TOS": (syn4(tos=0), syn4(tos=2)),
    "the window": (syn4(), syn4(segment={"window": 64_241})),
    "DF": (syn4(fragment=DF), syn4(fragment=0)),
    "the reserved bit": (syn4(fragment=DF), syn4(fragment=DF | RESERVED)),
    "IP id 0": (syn4(ip_id=1), syn4(ip_id=0)),
    "IP options": (
        ethernet(ipv4(tcp())),
        ethernet(ipv4(tcp(), options=bytes([148, 4, 0, 0]))),
    ),
    "ECN": (ethernet(ipv4(tcp())), ethernet(ipv4(tcp(flags="SEC")))),
    "PSH": (ethernet(ipv4(tcp())), ethernet(ipv4(tcp(flags="SP")))),
    "a reserved TCP bit": (ethernet(ipv4(tcp())), ethernet(ipv4(tcp(flags="SN")))),
    "data": (ethernet(ipv4(tcp())), ethernet(ipv4(tcp(b"x")))),
    "an acknowledgement": (syn4(), syn4(segment={"ack": 1})),
    "an urgent pointer": (syn4(), syn4(segment={"urgent": 1})),
    "sequence number 0": (syn4(), syn4(segment={"seq": 0})),
    "a flow label": (syn6(flow_label=0), syn6(flow_label=1)),
    "an extension header": (
        ethernet(ipv6(tcp())),
        ethernet(ipv6(extension(DSTOPTS, TCP, tcp()), next_header=DSTOPTS)),
    ),
    "no timestamp of its own": (syn4(stamped(1, 0)), syn4(stamped(0, 0))),
    "an echoed timestamp": (syn4(stamped(1, 0)), syn4(stamped(1, 1))),
    "the MSS": (syn4(MSS), syn4(b"\x02\x04\x05\xb5")),
    "the window scale": (syn4(b"\x01\x03\x03\x07"), syn4(b"\x01\x03\x03\x08")),
    "the order of options": (
        syn4(b"\x01\x01\x04\x02"),
        syn4(b"\x04\x02\x01\x01"),
    ),
    "padding": (syn4(b"\x04\x02\x01\x01"), syn4(b"\x04\x02\x01\x00")),
    "the bytes after the end of options": (
        syn4(b"\x00\x00\x00\x00"),
        syn4(b"\x00\x00\x00\x01"),
    ),
    "options or none": (syn4(b""), syn4(b"\x01\x01\x01\x01")),
    "an unknown option's value": (
        syn4(b"\xfe\x04\x00\x01"),
        syn4(b"\xfe\x04\x00\x02"),
    ),
    "what looks like a timestamp within another option": (
        syn4(b"\xfe\x0c\x08\x0a\x00\x00\x00\x01" + bytes(4)),
        syn4(b"\xfe\x0c\x08\x0a\x00\x00\x00\x02" + bytes(4)),
    ),
    "a timestamp of a wrong length": (
        syn4(b"\x08\x08\x00\x00\x00\x01\x00\x00"),
        syn4(b"\x08\x08\x00\x00\x00\x02\x00\x00"),
    ),
    "the bytes after an option of length 0": (
        syn4(b"\x03\x00\x00\x01"),
        syn4(b"\x03\x00\x00\x02"),
    ),
    "the 40th byte of options": (
        syn4(b"\x01" * 40),
        syn4(b"\x01" * 39 + b"\x00"),
    ),
    "ZMap's IP id": (syn4(ip_id=54_320), syn4(ip_id=54_321)),
    "Mirai's sequence number": (
        syn4(),
        syn4(segment={"seq": int.from_bytes(bytes([198, 51, 100, 7]), "big")}),
    ),
    "masscan's IP id": (syn4(), syn4(ip_id=(0x6407 ^ 443 ^ 1_000) & 0xFFFF)),
    "version 6 of the same": (ethernet(ipv4(tcp())), ethernet(ipv6(tcp()))),
}


@pytest.mark.parametrize("about", SAME)
def test_what_leaves_a_signature_as_it_is(kernel: Kernel, about: str) -> None:
    one, other = signatures(kernel, *SAME[about])
    assert one == other


@pytest.mark.parametrize("about", OTHER)
def test_what_changes_a_signature(kernel: Kernel, about: str) -> None:
    one, other = signatures(kernel, *OTHER[about])
    assert one != other


@pytest.mark.parametrize("peer", [DECKY_B, "192.0.2.10", DECKY6], ids=["lateral", "out", "IPv6"])
def test_a_decky_has_a_signature_for_each_port_that_it_asks_for(kernel: Kernel, peer: str) -> None:
    frames = []
    for port in (443, 22):
        if ":" in peer:
            frames.append(ethernet(ipv6(tcp(dport=port), src=peer, dst="2001:db8:1::9")))
        else:
            frames.append(ethernet(ipv4(tcp(dport=port), src=DECKY, dst=peer)))
    one, other = signatures(kernel, *frames)
    assert one != other


@pytest.mark.parametrize("length", range(0, 44, 4))
def test_every_byte_of_options_counts(kernel: Kernel, length: int) -> None:
    """The options are unknown ones, so that none is a timestamp."""
    kinds = bytearray([254, max(length, 2)] + [0] * length)[:length]
    frames = [syn4(bytes(kinds))]
    for at in range(2, length):
        changed = bytearray(kinds)
        changed[at] = 1
        frames.append(syn4(bytes(changed)))
    found = signatures(kernel, *frames)
    assert len(set(found)) == len(found)


def test_two_timestamps_of_one_stack_make_one_signature_at_any_offset(kernel: Kernel) -> None:
    for shift in range(31):
        front = b"\x01" * shift
        options = front + TIMESTAMP
        back = b"\x01" * (-len(options) % 4)
        later = front + b"\x08\x0a\x12\x34\x56\x78\x00\x00\x00\x00" + back
        one, other = signatures(
            kernel,
            syn4(options + back),
            syn4(later),
        )
        assert one == other, shift


@pytest.mark.parametrize("left", range(1, 10))
def test_options_of_the_syn_before_do_not_count(kernel: Kernel, left: int) -> None:
    """A timestamp for which there is no room is cut, whatever was there before."""
    cut = b"\x01" * (40 - left) + TIMESTAMP[:left]
    others = (b"\xfe\x28" + b"\x0a" * 38, b"\x01" * 30 + TIMESTAMP, MSS)
    frames = [syn4(cut)]
    for other in others:
        frames += [syn4(other), syn4(cut)]
    assert len(set(signatures(kernel, *frames)[::2])) == 1


def test_the_seed_makes_signatures_of_its_own(kernel: Kernel) -> None:
    (one,) = signatures(kernel, syn4())
    kernel.reset()
    kernel.settings(seed=0xFEED, dedup=0)
    kernel.feed(syn4())
    (sample,) = kernel.samples()
    assert isinstance(sample, SynSample)
    assert sample.signature != one


# --- suppression ---


def suppress(kernel: Kernel, signature: int, until_ns: int) -> None:
    """Write what the agent writes when it has emitted or suppressed a SYN."""
    table = kernel.loaded.maps["syn_seen"]
    slot = (signature >> 32) & (table.max_entries - 1)
    blank = abi.SEEN.parse(bytes(abi.SEEN.size))
    entry = blank._replace(signature=signature, expires_ns=until_ns)
    table.update(slot.to_bytes(4, "little"), abi.SEEN.build(entry))


@TALKS
def test_the_kernel_suppresses_tentatively_for_a_second(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(talk.c("S"), talk.c("S", 50), Wait(TENTATIVE_NS - 2 * MS), talk.c("S", 60))
    assert kernel.submitted() == "syn"
    assert kernel.raised()["syn_suppressed"] == 2
    kernel.feed(talk.c("S", 70))
    assert kernel.submitted() == "syn"


@TALKS
def test_the_agent_suppresses_for_as_long_as_it_says(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(talk.c("S"))
    (sample,) = kernel.samples()
    assert isinstance(sample, SynSample)
    suppress(kernel, sample.signature, kernel.now_ns + 300 * SECOND)
    kernel.feed(
        Wait(100 * SECOND),
        talk.c("S", 50),
        Wait(200 * SECOND - MS),
        talk.c("S", 60),
    )
    assert kernel.submitted() == ""
    entry = next(e for e in seen(kernel) if e.signature == sample.signature)
    assert (entry.suppressed, entry.last_ns) == (2, kernel.now_ns)
    kernel.feed(talk.c("S", 70))
    assert kernel.submitted() == "syn"
    assert kernel.raised()["syn_suppressed"] == 2


def test_a_source_without_a_record_is_sampled_again(kernel: Kernel) -> None:
    """So many sources came meanwhile that its record is gone. The agent deduplicates the event."""
    talk = Talk()
    kernel.feed(talk.c("S"))
    (sample,) = kernel.samples()
    assert isinstance(sample, SynSample)
    suppress(kernel, sample.signature, kernel.now_ns + 300 * SECOND)
    kernel.feed(talk.c("S", 50))
    kernel.settings(syn_cost_ns=SECOND, syn_burst_ns=0)
    kernel.feed(*(ethernet(ipv4(tcp(), src=f"10.1.{n >> 8}.{n & 255}")) for n in range(2_000)))
    kernel.settings()
    assert kernel.submitted() == ""
    kernel.feed(talk.c("S", 60), talk.c("S", 70), Wait(100 * SECOND), talk.c("S", 80))
    assert kernel.submitted() == "syn"
    assert kernel.raised()["syn_suppressed"] == 3


def seen(kernel: Kernel) -> list[Any]:
    """The slots of syn_seen that are in use."""
    return [
        abi.SEEN.parse(value) for _, value in kernel.loaded.maps["syn_seen"].items() if any(value)
    ]


def test_suppressed_syns_stay_counted_until_the_agent_reads_the_count(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("S"), talk.c("S", 50), talk.c("S", 60))
    (entry,) = seen(kernel)
    assert (entry.suppressed, entry.first_ns, entry.last_ns) == (
        2,
        kernel.now_ns - MS,
        kernel.now_ns,
    )
    kernel.feed(Wait(2 * TENTATIVE_NS), talk.c("S", 70))
    assert kernel.submitted() == "syn syn"
    (later,) = seen(kernel)
    assert later.suppressed == 2
    assert later.expires_ns == kernel.now_ns + TENTATIVE_NS


@TALKS
def test_without_dedup_every_syn_is_sampled(kernel: Kernel, talk: Talk) -> None:
    kernel.settings(dedup=0)
    kernel.feed(*(talk.c("S", 10 * n) for n in range(5)))
    assert kernel.submitted() == " ".join(["syn"] * 5)
    assert not seen(kernel)


def test_another_signature_in_the_slot_is_sampled_and_counted(kernel: Kernel) -> None:
    """More signatures than slots overwrite each other, all of them within a second."""
    slots = kernel.loaded.maps["syn_seen"].max_entries
    kernel.settings(syn_cost_ns=1)
    for n in range(2 * slots):
        kernel.feed(Wait(1_000), ethernet(ipv4(tcp(window=n & 0xFFFF, seq=n, sport=1 + n % 999))))
        if n % 200 == 0:
            kernel.samples()
    raised = kernel.raised()
    assert raised["frames_syn"] == 2 * slots
    assert "syn_suppressed" not in raised
    assert raised["syn_seen_overwrites"] + len(seen(kernel)) == 2 * slots


def test_a_syn_suppressed_tentatively_comes_with_its_handshake(kernel: Kernel) -> None:
    one, other = Talk(), Talk(client_port=41_000)
    kernel.feed(one.c("S"), *other.opened())
    syn, handshake = kernel.samples()
    assert isinstance(syn, SynSample)
    assert isinstance(handshake, HandshakeSample)
    assert not handshake.syn_sampled
    assert handshake.signature == syn.signature
    assert handshake.handshake.syn is not None
    assert handshake.handshake.syn.seq == other.client_iss


# --- the budget ---


def flood(count: int) -> list[bytes]:
    return [
        ethernet(ipv4(tcp(sport=1_024 + n % 60_000, seq=n, window=n & 0xFFFF)))
        for n in range(count)
    ]


def flood6(count: int) -> list[bytes]:
    return [
        ethernet(ipv6(tcp(sport=1_024 + n % 60_000, seq=n, window=n & 0xFFFF), dst=DECKY6))
        for n in range(count)
    ]


@pytest.mark.parametrize("frames", [flood, flood6], ids=["IPv4", "IPv6"])
def test_a_flood_is_cut_to_its_burst_and_then_its_rate(
    kernel: Kernel, frames: Callable[[int], list[bytes]]
) -> None:
    kernel.settings(dedup=0, syn_cost_ns=10 * MS, syn_burst_ns=200 * MS)
    kernel.feed(*(step for frame in frames(1_001) for step in (Wait(100_000), frame)))
    sampled = len(kernel.samples())
    assert sampled == (200 + 100) // 10
    raised = kernel.raised()
    assert raised["syn_over_budget"] == 1_001 - sampled
    assert raised["half_open_inserts"] == 1_001


@pytest.mark.parametrize("now_ns", [0, 1, MS, 1_000 * SECOND])
def test_a_budget_starts_full_whatever_the_time(kernel: Kernel, now_ns: int) -> None:
    kernel.settings(dedup=0, syn_cost_ns=MS, syn_burst_ns=3 * MS)
    kernel.now_ns = now_ns
    for port in range(5):
        kernel.feed(Wait(0), Talk(client_port=40_000 + port).c("S"))
    assert kernel.submitted() == "syn syn syn"
    assert kernel.raised()["syn_over_budget"] == 2


def test_the_budget_refills_to_its_burst_and_no_further(kernel: Kernel) -> None:
    kernel.settings(dedup=0, syn_cost_ns=MS, syn_burst_ns=50 * MS)
    frames = flood(400)
    kernel.feed(*(step for frame in frames[:200] for step in (Wait(0), frame)))
    assert len(kernel.samples()) == 50
    kernel.feed(Wait(3_600 * SECOND))
    kernel.feed(Wait(3_600 * SECOND), frames[200], *(s for f in frames[201:] for s in (Wait(0), f)))
    assert len(kernel.samples()) == 50


def test_a_clock_that_steps_back_refills_nothing(kernel: Kernel) -> None:
    kernel.settings(dedup=0, syn_cost_ns=MS, syn_burst_ns=5 * MS)
    frames = flood(30)
    kernel.feed(*(step for frame in frames[:10] for step in (Wait(0), frame)))
    assert len(kernel.samples()) == 5
    kernel.feed(Wait(-10 * SECOND), frames[10], *(s for f in frames[11:] for s in (Wait(0), f)))
    assert kernel.submitted() == ""


@TALKS
def test_a_handshake_in_a_flood_is_always_sampled_with_its_syn(kernel: Kernel, talk: Talk) -> None:
    kernel.settings(dedup=0, syn_cost_ns=SECOND, syn_burst_ns=SECOND)
    kernel.feed(*flood(50))
    assert kernel.submitted() == "syn"
    kernel.feed(talk.c("S", options=LINUX_OPTIONS), *talk.opened()[1:])
    (sample,) = kernel.samples()
    assert isinstance(sample, HandshakeSample)
    assert not sample.syn_sampled
    assert sample.signature
    assert sample.handshake.syn is not None
    assert sample.handshake.syn.options == LINUX_OPTIONS
    assert kernel.raised()["syn_over_budget"] == 50


def test_what_is_over_budget_is_not_marked_as_seen(kernel: Kernel) -> None:
    """Else the budget would suppress a signature that was never emitted."""
    kernel.settings(syn_cost_ns=10 * MS, syn_burst_ns=10 * MS)
    talk = Talk()
    other = replace(talk, client="192.0.2.77")
    kernel.feed(talk.c("S"), other.c("S"))
    assert kernel.submitted() == "syn"
    kernel.feed(Wait(10 * MS), other.c("S", 99))
    assert kernel.submitted() == "syn"
    assert kernel.raised().get("syn_suppressed", 0) == 0


def test_what_is_suppressed_costs_no_budget(kernel: Kernel) -> None:
    kernel.settings(syn_cost_ns=100 * MS, syn_burst_ns=200 * MS)
    talk = Talk()
    kernel.feed(*(talk.c("S", n) for n in range(0, 500, 10)))
    assert kernel.submitted() == "syn"
    kernel.feed(replace(talk, client="192.0.2.77").c("S"))
    assert kernel.submitted() == "syn"


# --- the link ---

MAC = bytes.fromhex("02a1b2c3d4e5")
FROM_MAC = bytes(6) + MAC


def linked(frame: bytes) -> bytes:
    return FROM_MAC + frame[12:]


@pytest.mark.parametrize(
    ("tags", "vlan"),
    [
        ((), 0),
        (((0x8100, 7),), 7),
        (((0x88A8, 0xE003), (0x8100, 7)), 3),
        (((0x8100, 0x2000),), 0),
    ],
    ids=["no tag", "a tag", "two tags", "a priority tag"],
)
def test_a_syn_has_the_link_that_it_came_over(
    kernel: Kernel, tags: tuple[tuple[int, int], ...], vlan: int
) -> None:
    kernel.feed(linked(ethernet(ipv4(tcp()), tags=tags)))
    (sample,) = kernel.samples()
    assert isinstance(sample, SynSample)
    assert sample.syn.link == Link(int.from_bytes(MAC, "little"), vlan)
    assert sample.syn.link.mac_text == MAC.hex(":")


@TALKS
def test_a_handshake_has_the_link_of_its_client(kernel: Kernel, talk: Talk) -> None:
    syn, synack, ack = talk.opened()
    kernel.feed(linked(syn), b"\x02" * 12 + synack[12:], linked(ack))
    found = [one for one in kernel.samples() if isinstance(one, HandshakeSample)]
    assert found[0].handshake.syn is not None
    assert found[0].handshake.syn.link == Link(int.from_bytes(MAC, "little"), 0)
