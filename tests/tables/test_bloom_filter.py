from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from deckwire.abi.hashes import filter_bit
from deckwire.limits import DECKY_BITS
from deckwire.tables.bloom_filter import filter_of, union
from deckwire.tcp.addresses import MAPPED_PREFIX

ADDRESSES = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=4, max_size=4).map(lambda packed: MAPPED_PREFIX + packed),
)


def bits(bloom_filter: bytes) -> set[int]:
    return {n for n in range(DECKY_BITS) if bloom_filter[n // 8] >> n % 8 & 1}


@given(ADDRESSES)
def test_a_bit_is_in_range_and_stays_the_same(packed: bytes) -> None:
    assert 0 <= filter_bit(packed) < DECKY_BITS
    assert filter_bit(packed) == filter_bit(packed)


def test_deckies_have_their_bits_and_nobody_else_has() -> None:
    assert bits(filter_of([])) == set()
    addresses = [MAPPED_PREFIX + ip_address(f"192.0.2.{n}").packed for n in range(200)]
    expected = {filter_bit(packed) for packed in addresses}
    for n in range(200):
        # Where a neighbour asks for the decky (RFC 4291, 2.7.1).
        for address in (f"2001:db8::{n}", f"ff02::1:ff00:{n}"):
            expected.add(filter_bit(ip_address(address).packed))
        addresses.append(ip_address(f"2001:db8::{n}").packed)
    assert bits(filter_of(addresses)) == expected


def test_a_union_has_the_bits_of_both() -> None:
    one, other = filter_of([bytes(16)]), filter_of([bytes(range(16)), b"\xff" * 16])
    assert bits(union(one, other)) == bits(one) | bits(other)
    assert union(one, one) == union(one, filter_of([])) == one


def test_neighbours_spread() -> None:
    """Consecutive addresses, as of a fleet, must not share bits."""
    neighbours = [
        MAPPED_PREFIX + ip_address(f"10.0.{n >> 8}.{n & 255}").packed for n in range(4096)
    ]
    assert len({filter_bit(packed) for packed in neighbours}) == len(neighbours)
