"""The values of the Bloom filter of all deckies (struct decky_filter).

A decky has one bit. An IPv6 decky has one more, of the multicast address to which neighbours send
their solicitations for it. So a frame of no decky costs no look at what it solicits.
"""

from __future__ import annotations

from collections.abc import Iterable

from deckwire.abi.hashes import filter_bit
from deckwire.limits import DECKY_BITS
from deckwire.tcp.addresses import MAPPED_PREFIX

_SOLICITED_NODE = bytes.fromhex("ff02000000000000000000 01ff")
"""RFC 4291, 2.7.1; the last three bytes of the address follow."""


def filter_of(addresses: Iterable[bytes]) -> bytes:
    """Make the filter that has exactly the bits of the deckies with these 16-byte addresses."""
    bits = bytearray(DECKY_BITS // 8)
    for packed in addresses:
        bit = filter_bit(packed)
        bits[bit >> 3] |= 1 << (bit & 7)
        if not packed.startswith(MAPPED_PREFIX):
            bit = filter_bit(_SOLICITED_NODE + packed[len(_SOLICITED_NODE) :])
            bits[bit >> 3] |= 1 << (bit & 7)
    return bytes(bits)


def union(one: bytes, other: bytes) -> bytes:
    """Make the filter that has the bits of both."""
    bits = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return bits.to_bytes(DECKY_BITS // 8, "little")
