"""The kernel side's hashes: mirrors of bpf/hash.h."""

from __future__ import annotations

_MASK = (1 << 64) - 1

HASH_FACTOR = 0x9E3779B97F4A7C15


def mix(value: int, word: int) -> int:
    """`value` with a word of 64 bits mixed in, 64 bits too."""
    value = (value ^ word) * HASH_FACTOR & _MASK
    return value ^ value >> 29


def absorb(value: int, word: int) -> int:
    """The same where the first value is a seed and words are chosen by somebody hostile."""
    both = value ^ word
    value = both * HASH_FACTOR & _MASK
    return value ^ value >> 29 ^ (both & 0xFFFF_FFFF) * (both >> 32)
