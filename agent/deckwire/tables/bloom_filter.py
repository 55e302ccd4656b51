"""The values of the Bloom filter of all deckies, one bit a decky (struct decky_filter)."""

from __future__ import annotations

from collections.abc import Iterable

from deckwire.abi.hashes import filter_bit
from deckwire.limits import DECKY_BITS


def filter_of(addresses: Iterable[bytes]) -> bytes:
    """Make the filter that has exactly the bits of these 16-byte addresses."""
    bits = bytearray(DECKY_BITS // 8)
    for packed in addresses:
        bit = filter_bit(packed)
        bits[bit >> 3] |= 1 << (bit & 7)
    return bytes(bits)


def union(one: bytes, other: bytes) -> bytes:
    """Make the filter that has the bits of both."""
    bits = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return bits.to_bytes(DECKY_BITS // 8, "little")
