"""Fixtures: loaded programs and network namespaces that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deckwire.kernel.loading import Loaded, LoadRequest, detach, load
from tests.support.kernel_namespaces import Namespace

PROGRAMS = Path(__file__).with_name("programs.c")
"""Small programs of the tests' own."""

Load = Callable[..., Loaded]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    try:
        yield made
    finally:
        made.delete()


@pytest.fixture
def start() -> Iterator[Load]:
    """load() with the tests' own programs. Everything is detached and closed afterwards."""
    made: list[Loaded] = []

    def start(**options: Any) -> Loaded:
        loaded = load(LoadRequest(**{"source": PROGRAMS, "jumps": (), **options}))
        made.append(loaded)
        return loaded

    try:
        yield start
    finally:
        for loaded in made:
            detach(loaded)
            loaded.close()


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    """The tests' own programs, not attached, for a whole module."""
    request = LoadRequest(
        source=PROGRAMS,
        jumps=(),
        programs=("tc_ingress", "tc_egress", "submit", "context"),
        ring_bytes=1 << 17,
        replay_clock=True,
    )
    made = load(request)
    yield made
    made.close()
