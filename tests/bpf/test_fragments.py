"""Samples of IP fragments, their budgets, and the program for packets that were put together."""

from __future__ import annotations

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import FragmentSample, HandshakeSample, SegmentSample
from tests.support.bpf_frames import DECKY, MF, TALK6, VLAN, Talk, ethernet, fragment, hello, ipv4
from tests.support.bpf_harness import SECOND, SETTINGS, Kernel, Wait, word

pytestmark = pytest.mark.root

MARK = SETTINGS["seed"] & 0xFFFF_FFFF, SETTINGS["seed"] >> 32
PIECE = ethernet(ipv4(bytes(8), fragment=MF))
TALKS = pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])


def reassembled(kernel: Kernel, frame: bytes, *, ingress: bool = True, ago_ns: int = 0) -> None:
    """What the agent does with a packet whose last fragment came `ago_ns` before."""
    kernel.loaded.programs["reassembled"].test_run(
        frame,
        tstamp=kernel.now_ns - ago_ns,
        cb=(abi.REASSEMBLED_INGRESS if ingress else 0, *MARK),
    )
    kernel._frames.setdefault(kernel.now_ns - ago_ns, []).append(frame)


@pytest.mark.parametrize("tags", [[], [(VLAN, 0)] * 5], ids=["bare", "tagged"])
@pytest.mark.parametrize("egress", [False, True])
def test_a_fragment_is_sampled_whole(
    kernel: Kernel, egress: bool, tags: list[tuple[int, int]]
) -> None:
    frame = ethernet(ipv4(bytes(range(64)), fragment=MF), tags=tags)
    kernel.feed(frame + b"padding", egress=egress)
    (sample,) = kernel.samples()
    assert isinstance(sample, FragmentSample)
    assert sample == (kernel.now_ns, not egress, frame, 14 + 4 * len(tags))


def pieces(count: int, length: int, *, sources: int = 1) -> list[bytes]:
    """Frames of `length` bytes, each with the first fragment of a packet."""
    return [
        ethernet(ipv4(bytes(length - 34), f"203.0.113.{n % sources}", DECKY, fragment=MF))
        for n in range(count)
    ]


def refused(kernel: Kernel, frames: list[bytes], after_ns: int = 0) -> int:
    """How many of these are beyond the budget if they come at once, after this time."""
    before = kernel.counters().get("fragments_over_budget", 0)
    for frame in frames:
        kernel.feed(Wait(after_ns), frame)
        after_ns = 0
        if kernel.run % 50 == 0:
            # The ring has no room for all.
            kernel.samples()
    return kernel.counters().get("fragments_over_budget", 0) - before


@pytest.mark.parametrize("length", [42, 1_034])
def test_a_source_has_a_budget_of_bytes(kernel: Kernel, length: int) -> None:
    """A record has 128 bytes more. An eighth of a second gives 156,250 bytes again."""
    at_once = 262_144 // (length + 128)
    assert refused(kernel, pieces(at_once + 20, length)) == 20
    again = 156_250 // (length + 128)
    assert refused(kernel, pieces(again + 20, length), SECOND // 8) in (19, 20)


def test_all_sources_have_a_budget_and_none_takes_more_than_half(kernel: Kernel) -> None:
    at_once = 524_288 // (1_034 + 128)
    assert refused(kernel, pieces(at_once, 1_034)) == at_once - at_once // 2
    others = pieces(at_once, 1_034, sources=9)[1:]
    assert refused(kernel, others) == len(others) - (at_once - at_once // 2)


def test_others_fragments_are_not_sampled(kernel: Kernel) -> None:
    kernel.feed(ethernet(ipv4(bytes(8), "203.0.113.5", "203.0.113.6", fragment=MF)))
    assert kernel.raised() == {"foreign_no_decky": 1}
    assert kernel.submitted() == ""


@TALKS
def test_a_packet_put_together_is_taken_without_its_times(kernel: Kernel, talk: Talk) -> None:
    """SYN, ACK and hello came in fragments, and so after what the server answered."""
    syn, synack, ack = talk.opened()
    kernel.feed(synack)
    reassembled(kernel, syn, ago_ns=SECOND)
    kernel.feed(Wait(SECOND // 10), talk.s("A", 1, 201))
    reassembled(kernel, ack, ago_ns=SECOND // 2)
    reassembled(kernel, talk.c("PA", 1, 1, hello(1)), ago_ns=SECOND // 2)
    samples = kernel.samples()
    assert [word(one) for one in samples] == ["syn", "handshake", "segment:200"]
    handshake, segment = samples[1:]
    assert isinstance(handshake, HandshakeSample)
    assert isinstance(segment, SegmentSample)
    opened = handshake.handshake
    assert opened.syn is not None
    assert opened.syn.reassembled
    assert (opened.rtt_server_us, opened.rtt_client_us, opened.established_ns) == (None, None, None)
    totals = kernel.flow().totals
    assert (totals.rtt_server_us, totals.rtt_client_us) == (abi.RTT_UNKNOWN, abi.RTT_UNKNOWN)
    assert kernel.client_side().bytes == 200
    assert kernel.raised()["packets_reassembled"] == 3


@TALKS
def test_a_packet_put_together_counts_after_the_end(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(*talk.opened(), Wait(SECOND), *talk.closed(201))
    assert kernel.submitted().endswith("end:fin")
    reassembled(kernel, talk.c("PA", 1, 1, hello(1)), ago_ns=SECOND // 2)
    assert kernel.submitted() == "segment:200"
    assert kernel.client_side().bytes == 200
    kernel.feed(talk.c("PA", 1, 1, hello(1)))
    assert kernel.raised()["frames_late"] == 1


@TALKS
def test_a_packet_that_came_whole_after_the_end_is_late(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(*talk.opened(), *talk.closed(201))
    assert kernel.submitted().endswith("end:fin")
    kernel.feed(Wait(SECOND))
    reassembled(kernel, talk.c("PA", 1, 1, hello(1)))
    assert kernel.submitted() == ""
    assert kernel.raised()["frames_late"] == 1


@TALKS
def test_each_packet_put_together_is_judged(kernel: Kernel, talk: Talk) -> None:
    """Also the second one: nothing that was found out of the first one counts for it."""
    syn, synack, ack = talk.opened()
    reassembled(kernel, syn)
    kernel.feed(synack)
    reassembled(kernel, ack)
    reassembled(kernel, talk.c("PA", 1, 1, b"EHLO you\r\n"))
    kernel.feed(talk.s("A", 1, 11))
    kernel.submitted()
    reassembled(kernel, talk.c("PA", 11, 5_000, hello(1)))
    reassembled(kernel, talk.c("P", 11, 0, hello(1)))
    reassembled(kernel, talk.c("PA", 1, 1, hello(1)[:10]))
    raised = kernel.raised()
    assert raised["refused_ack_unsent"] == 1
    assert raised["refused_no_ack"] == 1
    assert raised["segments_old"] == 1
    assert kernel.client_side().bytes == 20


def test_a_fin_that_comes_after_its_ack_ends_the_connection(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), Wait(SECOND), talk.s("FA", 1, 2))
    reassembled(kernel, talk.c("FA", 1, 1), ago_ns=SECOND // 2)
    reassembled(kernel, talk.c("A", 2, 2))
    assert kernel.submitted().endswith("end:fin")


@TALKS
def test_each_packet_put_together_is_judged_anew(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, bytes(100)), talk.s("A", 1, 101))
    reassembled(kernel, talk.c("PA", 1, 1, bytes(50)))
    assert kernel.raised()["segments_old"] == 1
    kernel.samples()
    reassembled(kernel, talk.c("PA", 101, 1, hello(1)))
    assert kernel.submitted() == "segment:200"
    assert kernel.raised()["segments_old"] == 1


def test_a_second_fragment_header_is_malformed(kernel: Kernel) -> None:
    frame = TALK6.c("S")
    inner = frame[:20] + b"\x2c" + frame[21:54] + fragment(6, frame[54:])
    reassembled(kernel, inner)
    assert kernel.raised() == {"ignored_ip_malformed": 1, "packets_reassembled": 1}


def test_a_packet_put_together_is_judged_anew(kernel: Kernel) -> None:
    """Nothing is left of the verdict on the one before."""
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, bytes(100)), talk.s("A", 1, 101))
    reassembled(kernel, talk.c("PA", 1, 1, bytes(100)))
    assert kernel.raised()["segments_old"] == 1
    reassembled(kernel, talk.c("PA", 101, 1, bytes(100)))
    assert kernel.raised()["segments_old"] == 1
    assert kernel.sent_by(client=True) == talk.client_iss + 201
