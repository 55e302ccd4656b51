"""Live tests: real traffic in a lab of the test's own. All of them need root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.lab import Lab

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and os.geteuid():
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A client with three addresses, a host that is on the MACVLAN too, three deckies."""
    with Lab(clients=3, host_macvlan=True) as made:
        yield made
