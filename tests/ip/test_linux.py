"""The reassembler against this kernel: what it delivers is what the reassembler makes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deckwire.ip.fragment import RefusedError, read_fragment
from deckwire.ip.reassembly import FARTHEST, Reassembler
from tests.support.fragment_peer import FragmentPeer, fragment4, fragment6, fragment_peer

pytestmark = pytest.mark.root

IDENTS = count(1, 4)
"""Each example has identifications of its own: the kernel still has datagrams of those before."""


class Piece(NamedTuple):
    """A fragment, with its data by the letter that fills it."""

    start: int
    length: int
    more: bool
    which: int = 0
    """Of two datagrams."""
    fill: int = 97
    tos: int = 0
    df: int = 0

    def packet(self, version: int, base: int) -> bytes:
        data = bytes([self.fill]) * self.length
        ident = (base + self.which) & 0xFFFF
        if version == 4:
            return fragment4(
                data, self.start, more=self.more, ident=ident, tos=self.tos, df=self.df
            )
        return fragment6(data, self.start, more=self.more, ident=ident, tos=self.tos)


@pytest.fixture(scope="module")
def peer() -> Iterator[FragmentPeer]:
    with fragment_peer() as running:
        yield running


class Both:
    """Sends packets to the kernel and to the reassembler, and compares what each makes."""

    def __init__(self, peer: FragmentPeer) -> None:
        self._peer = peer
        self.ours = Reassembler()
        self.received = 0

    def send(self, packet: bytes) -> list[bytes]:
        expected = self._peer.send(packet)
        self.received += 1
        made = []
        try:
            whole = self.ours.take(read_fragment(packet, 0, ingress=True), 0)
        except RefusedError:
            self.ours.counts["dropped"] += 1
            whole = None
        if whole is not None:
            made.append(whole.frame if packet[0] >> 4 == 4 else whole.frame[40:])
        assert made == expected
        return made

    def check(self) -> None:
        """No fragment is without a fate."""
        assert sum(self.ours.counts.values()) + self.ours.waiting == self.received


def split(cuts: list[int], length: int, which: int, tos: int) -> list[Piece]:
    """A datagram of `length` bytes, cut at these multiples of eight."""
    places = [0, *(cut * 8 for cut in cuts if cut * 8 < length), length]
    return [
        Piece(start, end - start, end < length, which, 97 + n, tos)
        for n, (start, end) in enumerate(pairwise(places))
    ]


whole_datagrams = st.builds(
    split,
    st.lists(st.integers(3, 12), unique=True, max_size=5).map(sorted),
    st.integers(24, 100),
    st.integers(0, 1),
    st.sampled_from([0, 0, 2, 3]),
)
any_pieces = st.builds(
    Piece,
    st.integers(0, 12).map(lambda units: units * 8),
    st.sampled_from([0, 1, 7, 8, 9, 16, 24, 24, 32, 40, 100]),
    st.booleans(),
    st.integers(0, 1),
    st.sampled_from([120, 121]),
    st.sampled_from([0, 0, 0, 1, 2, 3]),
    st.integers(0, 1),
)
series = st.one_of(
    whole_datagrams.flatmap(st.permutations),
    st.tuples(whole_datagrams, st.lists(any_pieces, max_size=3)).flatmap(
        lambda parts: st.permutations(parts[0] + parts[1])
    ),
    st.tuples(whole_datagrams, whole_datagrams).flatmap(
        lambda parts: st.permutations([*parts[0], *parts[1], *parts[0][:1]])
    ),
    st.lists(any_pieces, max_size=10),
)


@pytest.mark.parametrize("version", [4, 6])
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pieces=series)
# A repeated fragment, whole and in part; of one run, and of two.
@example([Piece(0, 24, True), Piece(24, 24, True), Piece(0, 48, True), Piece(48, 8, False)])
@example([Piece(24, 24, True), Piece(0, 24, True), Piece(0, 48, True), Piece(48, 8, False)])
@example([Piece(0, 24, True), Piece(0, 24, True, fill=98), Piece(24, 8, False)])
@example([Piece(0, 24, True), Piece(8, 8, True, fill=98), Piece(24, 8, False)])
# Overlaps; the rest begins anew.
@example([Piece(0, 24, True), Piece(16, 16, True), Piece(0, 24, True), Piece(24, 8, False)])
@example([Piece(0, 24, True), Piece(16, 16, False), Piece(24, 8, False)])
# Two ends, bytes after the end, an empty fragment, a length that is no multiple of eight.
@example([Piece(24, 8, False), Piece(24, 16, False), Piece(0, 24, True)])
@example([Piece(24, 8, False), Piece(32, 8, True), Piece(0, 24, True)])
@example([Piece(0, 24, True), Piece(24, 0, True), Piece(24, 8, False)])
@example([Piece(0, 31, True), Piece(24, 8, False)])
# ECN fields that cannot be of one packet, and some that can.
@example([Piece(0, 24, True, tos=0), Piece(24, 8, False, tos=2)])
@example([Piece(0, 24, True, tos=2), Piece(24, 8, False, tos=3)])
@example([Piece(0, 24, True, tos=1), Piece(24, 8, False, tos=2)])
# Don't fragment on the largest and on another one; a short first fragment.
@example([Piece(0, 24, True, df=1), Piece(24, 8, False)])
@example([Piece(0, 24, True), Piece(24, 8, False, df=1)])
@example([Piece(0, 8, True), Piece(8, 100, False)])
@example([Piece(0, 16, True), Piece(16, 100, False)])
def test_any_fragments_make_what_the_kernel_makes(
    peer: FragmentPeer, version: int, pieces: list[Piece]
) -> None:
    both, base = Both(peer), next(IDENTS)
    for piece in pieces:
        if not piece.start and not piece.more:
            continue  # a whole packet
        both.send(piece.packet(version, base))
    both.check()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1_480, 65_496])
def test_the_longest_packets(peer: FragmentPeer, version: int, size: int) -> None:
    """65,535 bytes in all are the most: of IPv4 with its header, of IPv6 without."""
    most = 65_535 - 20 if version == 4 else 65_535
    for length in (most, most - 1):
        both, base = Both(peer), next(IDENTS)
        made = [
            both.send(Piece(at, min(size, length - at), at + size < length).packet(version, base))
            for at in range(0, length, size)
        ]
        assert [len(packets) for packets in made][-1] == 1
    both, base = Both(peer), next(IDENTS)
    both.send(Piece(0, 65_480, True).packet(version, base))
    both.send(Piece(65_480, 65_528 - 65_480, True).packet(version, base))
    assert both.send(Piece(65_528, 8, False).packet(version, base)) == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("others", [FARTHEST - 1, FARTHEST, FARTHEST + 1])
def test_fragments_of_others_in_between(peer: FragmentPeer, version: int, others: int) -> None:
    """Of IPv4 only: after too many of them, what came before is dropped."""
    both, base = Both(peer), next(IDENTS)
    both.send(Piece(0, 24, True).packet(version, base))
    for n in range(others):
        both.send(Piece(24 + 8 * n, 8, True, 1).packet(version, base))
    made = both.send(Piece(24, 8, False).packet(version, base))
    assert len(made) == (0 if version == 4 and others > FARTHEST - 1 else 1)
    both.send(Piece(0, 24, True).packet(version, base))
    both.check()


def test_a_wrong_ipv4_checksum_drops_a_fragment(peer: FragmentPeer) -> None:
    both, base = Both(peer), next(IDENTS)
    wrong = Piece(0, 24, True).packet(4, base)
    both.send(wrong[:10] + b"\x12\x34" + wrong[12:])
    assert both.send(Piece(24, 8, False).packet(4, base)) == []
    assert len(both.send(Piece(0, 24, True).packet(4, base))) == 1


def test_options_of_the_first_fragment_are_kept(peer: FragmentPeer) -> None:
    both, base = Both(peer), next(IDENTS)
    options = bytes([1, 1, 1, 0])
    both.send(fragment4(bytes(8), 24, more=False, ident=base))
    assert both.send(fragment4(bytes(24), 0, more=True, ident=base, options=options))


@pytest.mark.parametrize("following", [6, 17, 59, 44])
def test_only_the_first_fragment_names_the_protocol(peer: FragmentPeer, following: int) -> None:
    both, base = Both(peer), next(IDENTS)
    both.send(fragment6(bytes(8), 24, more=False, ident=base, next_header=following))
    assert both.send(Piece(0, 24, True).packet(6, base))
