"""The kernel's Bloom filter of all deckies, one bit a decky: a mirror of bpf/hash.h."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from deckwire.abi.hashes import HASH_FACTOR, mix
from deckwire.deckies import MAPPED_PREFIX
from deckwire.limits import DECKY_BITS

_WORDS6 = Struct("<IIII")


def sketch_of(addresses: Iterable[bytes]) -> bytes:
    """The struct decky_filter that has the bits of these 16-byte addresses and no others."""
    bits = bytearray(DECKY_BITS // 8)
    for packed in addresses:
        bit = bit_of(packed)
        bits[bit >> 3] |= 1 << (bit & 7)
    return bytes(bits)


def union(one: bytes, other: bytes) -> bytes:
    """The struct decky_filter that has the bits of both."""
    bits = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return bits.to_bytes(DECKY_BITS // 8, "little")


def bit_of(packed: bytes) -> int:
    """filter_bit4() of a v4-mapped address, filter_bit6() of any other; 0 to DECKY_BITS - 1."""
    if packed.startswith(MAPPED_PREFIX):
        address = int.from_bytes(packed[len(MAPPED_PREFIX) :], "big")
        return address * HASH_FACTOR % 2**64 >> 48
    first, second, third, fourth = _WORDS6.unpack(packed)
    return mix(mix(0, first << 32 | second), third << 32 | fourth) >> 48
