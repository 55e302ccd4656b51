"""Bounds and times of the reassembler. test_linux.py compares what it makes with this kernel."""

from __future__ import annotations

import tracemalloc

import pytest

from deckwire.ip.fragment import RefusedError, read_fragment
from deckwire.ip.reassembly import SECONDS_NS, Reassembler, Whole
from deckwire.limits import (
    FRAGMENT_BYTES,
    FRAGMENT_DATAGRAMS,
    FRAGMENT_SOURCE_BYTES,
    FRAGMENT_SOURCE_DATAGRAMS,
)
from tests.support.fragment_peer import fragment4, fragment6

MAKE = {4: fragment4, 6: fragment6}


def take(
    ours: Reassembler, packet: bytes, now_ns: int = 0, *, source: int | None = None
) -> Whole | None:
    """`source` takes the place of the sender."""
    fragment = read_fragment(packet, 0, ingress=True)
    if source is not None:
        ingress, addresses, ident = fragment.key
        sender = source.to_bytes(4, "big")
        fragment = fragment._replace(key=(ingress, sender + addresses[4:], ident), source=sender)
    return ours.take(fragment, now_ns)


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_waits_as_long_as_linux_waits(version: int) -> None:
    make, ours = MAKE[version], Reassembler()
    for ident, wait_ns, complete in (
        (1, SECONDS_NS[version] - 1, True),
        (2, SECONDS_NS[version], False),
    ):
        take(ours, make(bytes(24), 0, more=True, ident=ident), 5)
        whole = take(ours, make(bytes(8), 24, more=False, ident=ident), 5 + wait_ns)
        assert (whole is not None) is complete
    assert ours.counts["expired"] == 1
    ours.expire(5 * SECONDS_NS[version])
    assert (len(ours), ours.held, ours.counts["expired"]) == (0, 0, 2)


def test_hooks_are_kept_apart() -> None:
    """A neighbour that forges a decky's address does not reach what the decky sends."""
    ours = Reassembler()
    first, last = (
        fragment4(bytes(24), 0, more=True, ident=1),
        fragment4(bytes(8), 24, more=False, ident=1),
    )
    ours.take(read_fragment(first, 0, ingress=True), 0)
    assert ours.take(read_fragment(last, 0, ingress=False), 0) is None


def test_a_source_has_its_share_and_its_oldest_is_evicted() -> None:
    ours = Reassembler()
    for ident in range(FRAGMENT_SOURCE_DATAGRAMS + 10):
        take(ours, fragment4(bytes(24), 0, more=True, ident=ident), ident)
    take(ours, fragment4(bytes(24), 0, more=True, ident=1), 99, source=7)
    assert (len(ours), ours.counts["evicted"]) == (FRAGMENT_SOURCE_DATAGRAMS + 1, 10)
    assert take(ours, fragment4(bytes(8), 24, more=False, ident=9), 99) is None
    assert take(ours, fragment4(bytes(8), 24, more=False, ident=20), 99) is not None
    assert take(ours, fragment4(bytes(8), 24, more=False, ident=1), 99, source=7) is not None


def test_a_source_has_its_share_of_memory() -> None:
    ours = Reassembler()
    for ident in range(40):
        for at in range(0, 60_000, 1_480):
            take(ours, fragment4(bytes(1_480), at, more=True, ident=ident))
            assert ours.held <= FRAGMENT_SOURCE_BYTES
    assert ours.counts["evicted"] > 0


def test_a_flood_with_one_fragment_each_stays_within_memory() -> None:
    """The estimate of what is held is not less than what Python takes for it."""
    ours = Reassembler()
    tracemalloc.start()
    try:
        for n in range(3 * FRAGMENT_DATAGRAMS):
            take(ours, fragment4(bytes(8), 8, more=True, ident=n & 0xFFFF), n, source=n)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ours) <= FRAGMENT_DATAGRAMS
    assert taken <= ours.held <= FRAGMENT_BYTES
    assert ours.counts["evicted"] == 3 * FRAGMENT_DATAGRAMS - len(ours)


def test_small_pieces_in_reverse_stay_within_memory() -> None:
    ours = Reassembler()
    tracemalloc.start()
    try:
        for at in range(40_000, 0, -16):
            take(ours, fragment4(bytes(8), at & ~7, more=True, ident=1))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= ours.held * 1.2


@pytest.mark.parametrize(
    ("packet", "cause"),
    [
        (b"", "cut"),
        (b"\x45" + bytes(10), "cut"),
        (b"\x75" + bytes(40), "malformed"),
        (fragment4(bytes(24), 0, more=True, ident=1)[:-1], "cut"),
        (fragment4(bytes(24), 0, more=False, ident=1), "malformed"),
        (fragment6(bytes(24), 0, more=True, ident=1)[:-1], "cut"),
        (fragment6(bytes(16), 0, more=True, ident=1), "first_too_short"),
        (fragment6(bytes(25), 8, more=True, ident=1), "malformed"),
        (fragment6(bytes(16), 65_528, more=False, ident=1), "malformed"),
    ],
)
def test_what_a_receiver_refuses_is_refused_by_cause(packet: bytes, cause: str) -> None:
    with pytest.raises(RefusedError, match=f"^{cause}$"):
        read_fragment(packet, 0, ingress=True)
