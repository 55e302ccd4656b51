"""Mutations that are not guided by coverage, for the smoke test."""

from __future__ import annotations

import random

_EDGES = [0x00, 0x01, 0x7F, 0x80, 0xFF, 0x0A, 0x1B, 0x22, 0x5D, 0x5C]


def mutated(dice: random.Random, seeds: list[bytes]) -> bytes:
    """Return one of the seeds after a few changes of the kinds that break parsers."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.choice([1, 1, 2, 4, 8])):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case 1 if at < len(data):
                data[at] = dice.choice(_EDGES)
            case 2:
                data[at:at] = bytes(dice.choice(_EDGES) for _ in range(dice.choice([1, 2, 4])))
            case 3:
                del data[at : at + dice.choice([1, 2, 4, 32])]
            case 4:
                other = dice.choice(seeds)
                start = dice.randrange(len(other) + 1)
                data[at : at + 16] = other[start : start + 16]
            case _:
                del data[at:]
    return bytes(data)
