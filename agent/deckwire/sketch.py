"""The bit a decky has in the kernel's sketch of all deckies: a mirror of bpf/hash.h."""

from __future__ import annotations

from struct import Struct

from deckwire.deckies import MAPPED_PREFIX
from deckwire.limits import DECKY_BITS
from deckwire.seeded_hash import HASH_FACTOR, mix

_WORDS6 = Struct("<IIII")


class Sketch:
    """Which bits are set, and by how many deckies each."""

    def __init__(self) -> None:
        self._deckies = [0] * DECKY_BITS
        self._bits = bytearray(DECKY_BITS // 8)

    def add(self, packed: bytes) -> None:
        """A decky by its 16-byte address."""
        bit = bit_of(packed)
        self._deckies[bit] += 1
        self._bits[bit // 8] |= 1 << bit % 8

    def remove(self, packed: bytes) -> None:
        """A decky that was added; its bit stays for others that have it too."""
        bit = bit_of(packed)
        self._deckies[bit] -= 1
        if not self._deckies[bit]:
            self._bits[bit // 8] &= ~(1 << bit % 8)

    @property
    def value(self) -> bytes:
        """struct decky_sketch."""
        return bytes(self._bits)


def bit_of(packed: bytes) -> int:
    """sketch_bit4() of a v4-mapped address, sketch_bit6() of any other; 0 to DECKY_BITS - 1."""
    if packed.startswith(MAPPED_PREFIX):
        address = int.from_bytes(packed[len(MAPPED_PREFIX) :], "big")
        return address * HASH_FACTOR % 2**64 >> 48
    first, second, third, fourth = _WORDS6.unpack(packed)
    return mix(mix(0, first << 32 | second), third << 32 | fourth) >> 48
