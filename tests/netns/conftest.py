"""Fixtures of the live tests, which make real traffic in a lab. All of them need root."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deckwire.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab with a client of three addresses, three deckies and a host on the same MACVLAN."""
    with Lab(clients=3, host_macvlan=True) as made:
        yield made
