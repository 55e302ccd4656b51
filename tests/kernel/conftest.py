"""Programs loaded and namespaces made for one test, and gone after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deckwire.kernel.loading import Loaded, LoadRequest, detach, load
from tests.support.kernel_namespaces import Namespace

HERE = Path(__file__).parent

Load = Callable[..., Loaded]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and item.get_closest_marker("root") and os.geteuid():
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    try:
        yield made
    finally:
        made.delete()


@pytest.fixture
def start() -> Iterator[Load]:
    """load() with the tests' own programs; everything is detached and closed afterwards."""
    made: list[Loaded] = []

    def start(**options: Any) -> Loaded:
        loaded = load(LoadRequest(**{"source": HERE / "programs.c", "jumps": (), **options}))
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
    """The tests' own programs, attached nowhere, for a whole module."""
    request = LoadRequest(
        source=HERE / "programs.c",
        jumps=(),
        programs=("tc_ingress", "tc_egress", "submit", "context"),
        ring_bytes=1 << 17,
        replay_clock=True,
    )
    made = load(request)
    yield made
    made.close()
