"""Which frames involve a decky: the Bloom filter, and the tables that decide."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest

from deckwire.abi.hashes import filter_bit
from deckwire.deckies import Decky
from deckwire.tables.tables import Tables
from tests.support.bpf_frames import CLIENT, CLIENT6, DECKY, DECKY6, ethernet, ipv4, ipv6, tcp
from tests.support.bpf_harness import Kernel

pytestmark = pytest.mark.root

Address = IPv4Address | IPv6Address

FAMILIES = pytest.mark.parametrize(
    "address",
    [lambda n: IPv4Address(n & 0xFFFF_FFFF), IPv6Address],
    ids=["IPv4", "IPv6"],
)


def decky(address: Address) -> Decky:
    return Decky("decky", address)


def syn_to(address: Address, sport: int = 40_000) -> bytes:
    if address.version == 4:
        return ethernet(ipv4(tcp(sport=sport), CLIENT, str(address)))
    return ethernet(ipv6(tcp(sport=sport), CLIENT6, str(address)))


def usable(address: Callable[[int], Address], seed: int, count: int) -> list[Address]:
    """Random addresses that a decky may have."""
    numbers = random.Random(seed)
    found: list[Address] = []
    while len(found) < count:
        one = address(numbers.getrandbits(128))
        if not (one.is_multicast or one.is_unspecified or one.is_loopback or one.is_reserved):
            found.append(one)
    return found


@FAMILIES
def test_every_decky_is_found(kernel: Kernel, address: Callable[[int], Address]) -> None:
    """The kernel looks for the bit that the agent set."""
    tables = Tables(kernel.loaded.maps)
    addresses = usable(address, 1, 300)
    tables.deckies.replace([decky(one).packed for one in addresses])
    for n, one in enumerate(addresses):
        kernel.feed(syn_to(one, 1_024 + n))
    kernel.samples()
    assert kernel.raised()["frames_syn"] == 300


@FAMILIES
def test_an_address_with_a_deckys_bit_is_foreign(
    kernel: Kernel, address: Callable[[int], Address]
) -> None:
    known = decky(IPv4Address(DECKY) if address(0).version == 4 else IPv6Address(DECKY6))
    base = int(known.address)
    twin = next(
        other
        for other in (address(base + n) for n in range(1, 1 << 22))
        if filter_bit(decky(other).packed) == filter_bit(known.packed)
    )
    kernel.feed(syn_to(twin), syn_to(known.address))
    assert kernel.raised() == {"foreign_no_decky": 1, "frames_syn": 1, "half_open_inserts": 1}
    assert kernel.submitted() == "syn"


@FAMILIES
def test_removing_a_decky_leaves_one_with_the_same_bit(
    kernel: Kernel, address: Callable[[int], Address]
) -> None:
    """Two deckies share a bit of the filter."""
    tables = Tables(kernel.loaded.maps)
    first = decky(IPv4Address("10.1.2.3") if address(0).version == 4 else IPv6Address("fd00::1"))
    base = int(first.address)
    second = next(
        other
        for other in (decky(address(base + n)) for n in range(1, 1 << 22))
        if filter_bit(other.packed) == filter_bit(first.packed)
    )
    tables.deckies.replace([first.packed, second.packed])
    tables.deckies.replace([second.packed])
    kernel.feed(syn_to(first.address), syn_to(second.address))
    raised = kernel.raised()
    assert (raised["foreign_no_decky"], raised["frames_syn"]) == (1, 1)
    tables.deckies.replace([])
    kernel.feed(syn_to(second.address, 50_000))
    assert kernel.raised()["foreign_no_decky"] == 2
