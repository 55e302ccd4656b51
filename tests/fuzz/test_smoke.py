"""The properties of every fuzz target hold for seeds, mutated seeds and arbitrary bytes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import NAMES, load

MUTATIONS = 300


@pytest.mark.parametrize("name", NAMES)
def test_properties_hold_for_seeds(name: str) -> None:
    target = load(name)
    for seed in target.seeds():
        target.check(seed)


@pytest.mark.parametrize("name", NAMES)
def test_properties_hold_for_mutated_seeds(name: str) -> None:
    target = load(name)
    seeds = target.seeds()
    dice = random.Random(name)
    for _ in range(MUTATIONS):
        data = mutated(dice, seeds)
        try:
            target.check(data)
        except BaseException:
            print(f"{name}: {data.hex()}")
            raise


@pytest.mark.parametrize("name", NAMES)
def test_properties_hold_for_arbitrary_bytes(name: str) -> None:
    check = load(name).check

    @settings(max_examples=50)
    @given(st.binary(max_size=300))
    def holds(data: bytes) -> None:
        check(data)

    holds()
