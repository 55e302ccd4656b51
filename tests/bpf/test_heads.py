"""The first bytes of SSH: which segments are sampled, of which end, and how much of them."""

from __future__ import annotations

import pytest

from deckwire.abi.samples import SegmentSample
from tests.support.bpf_frames import CLIENT_HELLO, Talk
from tests.support.bpf_harness import Kernel
from tests.support.ssh_wire import (
    CLIENT_BANNER,
    ECDH_INIT,
    SERVER_BANNER,
    kexinit,
    packet,
)

pytestmark = pytest.mark.root

CLIENT_LINE, SERVER_LINE = CLIENT_BANNER + b"\r\n", SERVER_BANNER + b"\r\n"
HEAD_BYTES = 96 * 32


@pytest.fixture
def opened(kernel: Kernel) -> Kernel:
    kernel.settings(heads=1)
    return kernel


def sampled(kernel: Kernel) -> list[tuple[str, int, int]]:
    """Sender, offset in its stream and length of each sample of a head."""
    found = []
    for sample in kernel.samples():
        if isinstance(sample, SegmentSample) and sample.head:
            assert sample.start_seq is not None
            sender = "c" if sample.sender == sample.client else "s"
            found.append((sender, sample.seq - sample.start_seq, len(sample.payload)))
    return found


def test_both_ends_are_sampled_up_to_the_packet_after_kexinit(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    offer, init = packet(kexinit()), packet(bytes([ECDH_INIT]) + bytes(36))
    mine, theirs = 1 + len(CLIENT_LINE), 1 + len(SERVER_LINE)
    opened.feed(
        *talk.opened(),
        talk.s("PA", 1, 1, SERVER_LINE),
        talk.c("PA", 1, theirs, CLIENT_LINE),
        talk.c("PA", mine, theirs, offer),
        talk.s("PA", theirs, mine + len(offer), offer),
        talk.c("PA", mine + len(offer), theirs + len(offer), init),
        *(
            talk.c("PA", mine + len(offer) + len(init) + 100 * n, theirs + len(offer), bytes(100))
            for n in range(5)
        ),
    )
    expected = [
        ("s", 0, len(SERVER_LINE)),
        ("c", 0, len(CLIENT_LINE)),
        ("c", len(CLIENT_LINE), len(offer)),
        ("s", len(SERVER_LINE), len(offer)),
        ("c", len(CLIENT_LINE) + len(offer), len(init)),
    ]
    found = sampled(opened)
    assert found[:5] == expected
    # What is left of the last units.
    assert sum(size for _, _, size in found[5:]) <= 2 * 32


@pytest.mark.parametrize("first", ["c", "s"])
def test_one_end_opens_the_heads_of_both(opened: Kernel, first: str) -> None:
    talk = Talk(server_port=2_222)
    banner = {"c": talk.c("PA", 1, 1, CLIENT_LINE), "s": talk.s("PA", 1, 1, SERVER_LINE)}
    odd = {
        "s": talk.c("PA", 1, 1 + len(SERVER_LINE), b"-HSS2.0-libssh\r\n"),
        "c": talk.s("PA", 1, 1 + len(CLIENT_LINE), b"-HSS2.0-server\r\n"),
    }
    opened.feed(*talk.opened(), banner[first], odd[first])
    assert [(sender, at) for sender, at, _ in sampled(opened)] == [
        *((end, 0) for end in (first, "cs".replace(first, ""))),
    ]


def test_a_head_has_a_budget_that_nothing_refills(opened: Kernel) -> None:
    """Neither a banner of the other end, nor retransmissions, nor a hole, nor urgent data."""
    talk = Talk(server_port=22)
    opened.feed(*talk.opened(), talk.s("PA", 1, 1, SERVER_LINE))
    at = 1
    for n in range(40):
        opened.feed(talk.s("PA", 1 + len(SERVER_LINE) + 100 * n, 1, b"SSH-" + bytes(96)))
    opened.feed(talk.c("PA", at, 1, CLIENT_LINE))
    total = sum(size for sender, _, size in sampled(opened) if sender == "s")
    assert 0 < total <= HEAD_BYTES
    gap = 1 + len(SERVER_LINE) + 100 * 60
    for n in range(10):
        opened.feed(talk.s("PAU", gap + 100 * n, 1, b"SSH-" + bytes(96), urgent=5))
        opened.feed(talk.s("PA", 1, 1, SERVER_LINE))
    assert [one for one in sampled(opened) if one[0] == "s"] == []


def test_tiny_segments_use_up_whole_units(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    opened.feed(*talk.opened(), talk.s("PA", 1, 1, b"SSH-"))
    for n in range(200):
        opened.feed(talk.s("PA", 5 + n, 1, b"x"))
    assert len(sampled(opened)) == 96


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"SSh-2.0-x\r\n", b"SSH", b" SSH-2.0-x\r\n"]
)
def test_other_protocols_have_no_head(opened: Kernel, data: bytes) -> None:
    talk = Talk(server_port=22)
    opened.feed(*talk.opened(), talk.c("PA", 1, 1, data), talk.s("PA", 1, 1 + len(data), data))
    assert sampled(opened) == []


def test_only_the_first_bytes_of_an_end_are_a_banner(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    opened.feed(*talk.opened(), talk.c("PA", 1, 1, b"hello\r\n"), talk.c("PA", 8, 1, CLIENT_LINE))
    assert sampled(opened) == []


def test_a_connection_without_a_seen_handshake_has_no_head(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    opened.feed(talk.c("PA", 1, 1, CLIENT_LINE), talk.s("PA", 1, 1, SERVER_LINE))
    assert sampled(opened) == []


def test_heads_can_be_turned_off(kernel: Kernel) -> None:
    talk = Talk(server_port=22)
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, CLIENT_LINE), talk.s("PA", 1, 1, SERVER_LINE))
    assert kernel.submitted() == "syn handshake"


def test_a_hello_after_a_banner_is_still_found(opened: Kernel) -> None:
    """A banner must not conceal TLS."""
    talk = Talk(server_port=22)
    opened.feed(
        *talk.opened(),
        talk.c("PA", 1, 1, CLIENT_LINE),
        talk.c("PA", 1 + len(CLIENT_LINE), 1, CLIENT_HELLO),
    )
    tls = [
        sample
        for sample in opened.samples()
        if isinstance(sample, SegmentSample) and not sample.head
    ]
    assert [sample.payload for sample in tls] == [CLIENT_HELLO]
