from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from deckwire.deckies import MAPPED_PREFIX
from deckwire.limits import DECKY_BITS
from deckwire.sketch import Sketch, bit_of

ADDRESSES = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=4, max_size=4).map(lambda packed: MAPPED_PREFIX + packed),
)


def bits(sketch: Sketch) -> set[int]:
    return {n for n in range(DECKY_BITS) if sketch.value[n // 8] >> n % 8 & 1}


@given(ADDRESSES)
def test_a_bit_is_in_range_and_stays_the_same(packed: bytes) -> None:
    assert 0 <= bit_of(packed) < DECKY_BITS
    assert bit_of(packed) == bit_of(packed)


def test_added_deckies_have_their_bits_and_removed_ones_have_not() -> None:
    sketch = Sketch()
    assert bits(sketch) == set()
    addresses = [MAPPED_PREFIX + ip_address(f"192.0.2.{n}").packed for n in range(200)]
    for packed in addresses:
        sketch.add(packed)
    assert bits(sketch) == {bit_of(packed) for packed in addresses}
    for packed in addresses[1:]:
        sketch.remove(packed)
    assert bits(sketch) == {bit_of(addresses[0])}


def test_a_bit_that_two_deckies_share_stays_until_both_are_gone() -> None:
    sketch = Sketch()
    packed = MAPPED_PREFIX + ip_address("192.0.2.1").packed
    sketch.add(packed)
    sketch.add(packed)
    sketch.remove(packed)
    assert bits(sketch) == {bit_of(packed)}
    sketch.remove(packed)
    assert bits(sketch) == set()


def test_neighbours_spread() -> None:
    """A fleet's addresses follow each other: they must not share bits."""
    neighbours = [
        MAPPED_PREFIX + ip_address(f"10.0.{n >> 8}.{n & 255}").packed for n in range(4096)
    ]
    assert len({bit_of(packed) for packed in neighbours}) == len(neighbours)
