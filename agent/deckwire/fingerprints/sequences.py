"""How a source chooses IP identifications and initial sequence numbers, from its last SYNs.

Both are counters in some stacks, constant in others and random in the rest. DECNET names the
classes; its thresholds are used here. Unlike DECNET, a step is taken modulo the width of the field,
so a counter that wraps is still a counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

SAMPLES = 8
"""The latest SYNs of a source that count."""
LEAST_SAMPLES = 4
"""Fewer show nothing."""
LARGEST_STEP = 4_096
"""A counter that other connections move too advances by no more between two SYNs."""

_IP_ID_BITS, _SEQ_BITS = 16, 32


class SequenceClass(StrEnum):
    """How the values of a field follow each other."""

    UNKNOWN = "unknown"
    ZERO = "zero"
    CONSTANT = "constant"
    INCREMENTAL = "incremental"
    RANDOM = "random"


def ipid_class(samples: Sequence[int]) -> SequenceClass:
    """The class of IP identifications, in the order of their SYNs; only the last SAMPLES count."""
    return _class_of(samples, _IP_ID_BITS)


def isn_class(samples: Sequence[int]) -> SequenceClass:
    """The class of initial sequence numbers, likewise."""
    return _class_of(samples, _SEQ_BITS)


def _class_of(samples: Sequence[int], bits: int) -> SequenceClass:
    latest = samples[-SAMPLES:]
    if len(latest) < LEAST_SAMPLES:
        return SequenceClass.UNKNOWN
    if len(set(latest)) == 1:
        return SequenceClass.CONSTANT if latest[0] else SequenceClass.ZERO
    mask = (1 << bits) - 1
    steps = [(after - before) & mask for before, after in pairwise(latest)]
    if all(0 < step <= LARGEST_STEP for step in steps):
        return SequenceClass.INCREMENTAL
    return SequenceClass.RANDOM
