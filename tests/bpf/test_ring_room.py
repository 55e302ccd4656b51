"""The second half of a ring is for samples that no sweep makes good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import EndSample
from deckwire.tables.ring_room import RingRoom
from tests.support.bpf_frames import CLIENT_HELLO, TALK6, Talk, ethernet, ipv4, tcp
from tests.support.bpf_harness import Kernel

pytestmark = pytest.mark.root

TALKS = pytest.mark.parametrize("talk", [Talk(client_port=60_000), TALK6], ids=["IPv4", "IPv6"])
ALL_HEADS = sum(1 << kind for kind in range(1, len(abi.HEAD_KINDS)))


def take_half(kernel: Kernel) -> RingRoom:
    """Fill half of this CPU's ring with SYN samples, of which the agent has read none."""
    room = RingRoom(kernel.loaded.maps)
    kernel.settings(dedup=0, syn_cost_ns=1)
    room.note(kernel.loaded.rings)
    for n in range(2_000):
        kernel.feed(ethernet(ipv4(tcp(sport=1_024 + n, window=n + 1))))
        if not n % 50 and kernel.counters().get("syn_over_budget"):
            return room
    raise AssertionError("every SYN was sampled")


@TALKS
def test_handshakes_and_ends_wait_for_the_sweep_and_segments_do_not(
    tiny: Kernel, talk: Talk
) -> None:
    room = take_half(tiny)
    tiny.feed(*talk.opened())
    assert tiny.flow().synack.ip_flags & abi.HANDSHAKE_LOST
    assert not tiny.flow().syn.ip_flags & abi.SYN_KNOWN, "its sample is to carry the SYN"
    tiny.feed(talk.c("PA", 1, 1, CLIENT_HELLO))
    tiny.feed(*talk.closed(1 + len(CLIENT_HELLO), 1))
    totals = tiny.flow().totals
    assert totals.close == abi.CLOSES.index("fin")
    assert not totals.end_sent
    counters = tiny.counters()
    assert counters["samples_deferred"] == 2
    assert "samples_lost" not in counters
    assert tiny.submitted().split()[-1] == f"segment:{len(CLIENT_HELLO)}"
    # Once the agent has read the ring, all is sampled again.
    room.note(tiny.loaded.rings)
    again = replace(talk, client_port=50_000)
    tiny.feed(*again.opened(), *again.closed())
    assert tiny.submitted() == "syn handshake end:fin"
    assert tiny.counters()["samples_deferred"] == 2


@TALKS
@pytest.mark.parametrize("head", [b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n\r\n", b"12345678"])
def test_first_bytes_are_left_out_and_tls_behind_them_is_not(
    tiny: Kernel, talk: Talk, head: bytes
) -> None:
    room = take_half(tiny)
    tiny.settings(dedup=0, heads=ALL_HEADS)
    tiny.feed(*talk.opened())
    tiny.samples()
    tiny.feed(talk.c("PA", 1, 1, head), talk.s("PA", 1, 1 + len(head), head))
    assert tiny.submitted() == ""
    assert tiny.counters()["heads_left_out"] == 2
    # What an end has left out of its head stays out: nothing could be read behind a gap.
    room.note(tiny.loaded.rings)
    said = 1 + len(head)
    tiny.feed(talk.c("PA", said, said, head))
    assert tiny.submitted() == ""
    tiny.feed(talk.c("PA", said + len(head), said, CLIENT_HELLO))
    assert tiny.submitted() == f"segment:{len(CLIENT_HELLO)}"
    assert tiny.counters()["heads_left_out"] == 2


@TALKS
def test_a_banner_that_was_left_out_was_not_suppressed(tiny: Kernel, talk: Talk) -> None:
    """The agent would look for it, and take it for evicted."""
    room = take_half(tiny)
    tiny.settings(heads=ALL_HEADS)
    tiny.feed(*talk.opened(), talk.c("PA", 1, 1, b"SSH-2.0-x\r\n"))
    assert tiny.counters()["heads_left_out"] == 1
    tiny.samples()
    room.note(tiny.loaded.rings)
    tiny.feed(*talk.closed(12, 1))
    (end,) = tiny.samples()
    assert isinstance(end, EndSample)
    assert end.record.heads == (0, 0)


def test_without_room_in_the_table_the_next_segment_tries_again(tiny: Kernel) -> None:
    """No sweep finds the connection. The end of one that is replaced is sampled all the same."""
    first = Talk(client_port=60_000)
    full = [first, *(replace(first, client_port=60_001 + n) for n in range(3))]
    for talk in full:
        tiny.feed(*talk.opened())
    tiny.samples()
    room = take_half(tiny)
    tiny.samples()
    again = replace(first, client_iss=70_000, server_iss=80_000)
    late = replace(first, client_port=50_000)
    tiny.feed(*late.opened(), *again.opened())
    assert tiny.submitted() == "end:idle"
    assert (tiny.counters()["samples_lost"], tiny.counters()["samples_deferred"]) == (1, 1)
    room.note(tiny.loaded.rings)
    tiny.feed(late.c("A", 1, 1), late.c("A", 1, 1))
    assert tiny.submitted() == "handshake"


def test_nothing_is_deferred_as_long_as_nobody_reads_the_rings_for_the_kernel(
    tiny: Kernel,
) -> None:
    """A replay reads them before half of one is taken."""
    tiny.settings(dedup=0, syn_cost_ns=1)
    for n in range(2_000):
        tiny.feed(ethernet(ipv4(tcp(sport=1_024 + n, window=n + 1))))
    tiny.feed(*Talk(client_port=60_000).opened())
    counters = tiny.counters()
    assert counters["samples_lost"] > 0
    assert "samples_deferred" not in counters
    assert "syn_over_budget" not in counters
