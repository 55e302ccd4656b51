"""Whose frame it is, as the programs read it."""

from __future__ import annotations

import pytest

from deckwire.captures import addresses
from deckwire.captures.addresses import MOST_TAGS
from deckwire.deckies import Decky, parse_address
from tests.support import bpf_frames as wire

TAGS = [[], [(wire.VLAN, 5)], [(wire.QINQ, 6), (wire.VLAN, 7)], [(wire.VLAN, 0)] * 5]


def packed(address: str) -> bytes:
    return Decky("decky", parse_address(address)).packed


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("protocol", [wire.TCP, wire.UDP])
def test_both_families_with_and_without_tags(tags: list[tuple[int, int]], protocol: int) -> None:
    v4 = wire.ethernet(wire.ipv4(b"", protocol=protocol), tags=tags)
    assert addresses(v4) == (packed(wire.CLIENT), packed(wire.DECKY))
    v6 = wire.ethernet(wire.ipv6(b"", next_header=protocol), tags=tags)
    assert addresses(v6) == (packed(wire.CLIENT6), packed(wire.DECKY6))


def test_what_is_no_ip_packet_has_none() -> None:
    assert addresses(wire.ethernet(bytes(40), wire.ETH_ARP)) is None


def test_more_tags_than_the_programs_walk_are_not_walked() -> None:
    most = [(wire.VLAN, 0)] * MOST_TAGS
    assert addresses(wire.ethernet(wire.ipv4(b""), tags=most)) is not None
    assert addresses(wire.ethernet(wire.ipv4(b""), tags=[*most, (wire.VLAN, 0)])) is None


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("packet", [wire.ipv4(b""), wire.ipv6(b"")])
def test_every_cut_is_survived(packet: bytes, tags: list[tuple[int, int]]) -> None:
    whole = wire.ethernet(packet, tags=tags)
    for size in range(len(whole)):
        assert addresses(whole[:size]) is None
    assert addresses(whole) is not None
