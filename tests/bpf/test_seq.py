"""The sequence space of one side: new bytes, holes, retransmissions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from tests.support.bpf_frames import TALK6, Talk
from tests.support.bpf_harness import Kernel, Wait

pytestmark = pytest.mark.root

Steps = Sequence[bytes | Wait]

TALKS = {
    "IPv4": Talk(),
    "IPv6": TALK6,
    "client at the other end of the key": Talk(client_port=443, server_port=40_000),
    "sequence numbers that wrap": Talk(client_iss=0xFFFF_FFFD, server_iss=0xFFFF_FFFD),
}
EITHER_TALK = pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)


class Account(NamedTuple):
    about: str
    steps: Callable[[Talk], Steps]
    """Of the client, after the handshake."""
    packets: int
    bytes: int
    retransmits: int


ACCOUNTS = [
    Account("in order", lambda t: [t.c("PA", 1, 1, b"ab"), t.c("PA", 3, 1, b"cd")], 2, 4, 0),
    Account(
        "one segment twice", lambda t: [t.c("PA", 1, 1, b"ab"), t.c("PA", 1, 1, b"ab")], 2, 4, 1
    ),
    Account(
        "a retransmission with more bytes",
        lambda t: [t.c("PA", 1, 1, b"ab"), t.c("PA", 1, 1, b"abcd"), t.c("PA", 5, 1, b"ef")],
        3,
        8,
        1,
    ),
    Account(
        "an older segment again",
        lambda t: [t.c("A", 1, 1, b"ab"), t.c("A", 3, 1, b"cd"), t.c("A", 1, 1, b"ab")],
        3,
        6,
        1,
    ),
    Account("acknowledgements alone", lambda t: [t.c("A", 1, 1)] * 3, 3, 0, 0),
    Account(
        "reordered: two swapped",
        lambda t: [t.c("A", 3, 1, b"cd"), t.c("A", 1, 1, b"ab"), t.c("A", 5, 1, b"ef")],
        3,
        6,
        0,
    ),
    Account(
        "reordered: backwards",
        lambda t: [t.c("A", seq, 1, b"ab") for seq in (7, 5, 3, 1)],
        4,
        8,
        0,
    ),
    Account(
        "a hole filled, and the filling again",
        lambda t: [t.c("A", 3, 1, b"cd"), t.c("A", 1, 1, b"ab"), t.c("A", 1, 1, b"ab")],
        3,
        6,
        1,
    ),
    Account(
        "two holes",
        lambda t: [t.c("A", seq, 1, b"ab") for seq in (3, 7, 1, 5)],
        4,
        8,
        0,
    ),
    Account(
        "a hole that stays, and the bytes after it twice",
        lambda t: [t.c("A", 3, 1, b"cd"), t.c("A", 3, 1, b"cd")],
        2,
        4,
        1,
    ),
    Account(
        "one segment fills a hole and repeats the bytes after it",
        lambda t: [t.c("A", 3, 1, b"cd"), t.c("A", 1, 1, b"abcdef"), t.c("A", 7, 1, b"g")],
        3,
        9,
        0,
    ),
    Account(
        "keep-alive without data",
        lambda t: [t.c("A", 1, 1, b"ab"), t.c("A", 2, 1), t.c("A", 2, 1)],
        3,
        2,
        0,
    ),
    Account(
        "keep-alive with one byte",
        lambda t: [t.c("A", 1, 1, b"ab"), t.c("A", 2, 1, b"\0"), t.c("A", 2, 1, b"\0")],
        3,
        4,
        0,
    ),
    Account(
        "one byte pushed again is no keep-alive",
        lambda t: [t.c("PA", 1, 1, b"a"), t.c("PA", 1, 1, b"a")],
        2,
        2,
        1,
    ),
    Account("FIN twice", lambda t: [t.c("FA", 1, 1), t.c("FA", 1, 1), t.c("FA", 1, 1)], 3, 0, 2),
    Account(
        "FIN with data twice",
        lambda t: [t.c("FA", 1, 1, b"ab"), t.c("FA", 1, 1, b"ab")],
        2,
        4,
        1,
    ),
    Account(
        "the acknowledgement of a FIN after our own",
        lambda t: [t.c("FA", 1, 1), t.c("A", 2, 1)],
        2,
        0,
        0,
    ),
    Account("an unacceptable reset: refused", lambda t: [t.c("R", 77)], 0, 0, 0),
]


@EITHER_TALK
@pytest.mark.parametrize("case", ACCOUNTS, ids=[case.about for case in ACCOUNTS])
def test_counts_of_one_side(kernel: Kernel, case: Account, talk: Talk) -> None:
    kernel.feed(*talk.opened())
    before = kernel.client_side()
    kernel.feed(*case.steps(talk))
    side = kernel.client_side()
    assert side.packets - before.packets == case.packets
    assert side.bytes == case.bytes
    assert side.retransmits == case.retransmits
    server = kernel.server_side()
    assert (server.packets, server.bytes, server.retransmits) == (1, 0, 0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))), ids=str)
def test_no_order_of_five_segments_is_a_retransmission(
    kernel: Kernel, order: tuple[int, ...]
) -> None:
    talk = TALKS["sequence numbers that wrap"]
    kernel.feed(*talk.opened(), *(talk.c("A", 1 + 10 * n, 1, bytes(10)) for n in order))
    side = kernel.client_side()
    assert (side.bytes, side.retransmits) == (50, 0)
    totals = kernel.flow().totals
    assert totals.end[totals.client].sent == (talk.client_iss + 51) & 0xFFFF_FFFF
