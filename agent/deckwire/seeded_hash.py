"""The kernel side's hash: a mirror of mix() in bpf/hash.h."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix(value: int, word: int) -> int:
    """`value` with a word of 64 bits mixed in, 64 bits too; a seed is the first value."""
    value = (value ^ word) * 0x9E3779B97F4A7C15 & _MASK
    return value ^ value >> 29
