"""Classes of IP identifications and initial sequence numbers, against a reference of their own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from deckwire.fingerprints.sequences import ipid_class, isn_class

SERIES = 10_000
SEED = 20_261_128


def reference(values: list[int], modulus: int) -> str:
    """The classes in the words of the contract, one value after another."""
    last = values if len(values) <= 8 else values[len(values) - 8 :]
    if len(last) < 4:
        return "unknown"
    zeros = equal = rising = True
    previous = None
    for value in last:
        zeros = zeros and value == 0
        if previous is not None:
            equal = equal and value == previous
            step = value - previous
            if step < 0:
                step += modulus
            rising = rising and 1 <= step <= 4_096
        previous = value
    return "zero" if zeros else "constant" if equal else "incremental" if rising else "random"


def series(rng: random.Random, modulus: int) -> list[int]:
    """SYNs of one source: a stack of some kind, now and then with an odd value among them."""
    start = rng.choice([0, 1, modulus - 1, modulus - 3_000, rng.randrange(modulus)])
    count = rng.randrange(20)
    kind = rng.randrange(6)
    values = [start]
    for _ in range(count):
        step = (
            0,
            1,
            rng.randint(1, 4_096),
            rng.randint(0, 4_097),
            rng.randrange(modulus),
            rng.choice([4_096, 4_097, modulus - 1]),
        )[kind]
        values.append((values[-1] + step) % modulus)
    if rng.random() < 0.1:
        values[rng.randrange(len(values))] = rng.choice([0, modulus - 1, rng.randrange(modulus)])
    if rng.random() < 0.1:
        values = [0] * len(values)
    return values[: rng.randrange(len(values) + 1)] if rng.random() < 0.2 else values


@pytest.mark.parametrize(
    ("classify", "modulus"), [(ipid_class, 1 << 16), (isn_class, 1 << 32)], ids=["IP id", "ISN"]
)
def test_ten_thousand_series(classify: Callable[[list[int]], str], modulus: int) -> None:
    rng = random.Random(SEED)
    found: Counter[str] = Counter()
    for _ in range(SERIES):
        values = series(rng, modulus)
        expected = reference(values, modulus)
        assert classify(values) == expected, values
        found[expected] += 1
    assert set(found) == {"unknown", "zero", "constant", "incremental", "random"}
    assert min(found.values()) > 200, found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "unknown"),
        ([1, 2, 3], "unknown"),
        ([0, 0, 0, 0], "zero"),
        ([0, 0, 0, 1], "random"),
        ([54_321] * 4, "constant"),
        ([1, 2, 3, 4_099], "incremental"),
        ([1, 2, 3, 4_100], "random"),
        ([65_534, 65_535, 0, 1], "incremental"),
        ([4, 3, 2, 1], "random"),
        ([9, 500, 3, *range(100, 108)], "incremental"),
        ([1, 1, 2, 3], "random"),
    ],
)
def test_classes_of_ip_identifications(values: list[int], expected: str) -> None:
    assert ipid_class(values) == expected


def test_the_width_of_the_field_decides_what_wraps() -> None:
    wraps = [0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1]
    assert isn_class(wraps) == "incremental"
    assert isn_class([65_534, 65_535, 0, 1]) == "random"
