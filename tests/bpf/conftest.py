"""The programs, loaded once with the replay clock. Each test starts with empty tables."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from deckwire.kernel.loading import Loaded, LoadRequest, load
from deckwire.limits import RING_BYTES_MIN
from tests.support.bpf_harness import SETTINGS, SMALL_TABLES, TINY_TABLES, Kernel, pin


@pytest.fixture(scope="package")
def replaying() -> Iterator[Loaded]:
    request = LoadRequest(replay_clock=True, settings=SETTINGS, table_sizes=SMALL_TABLES)
    loaded = load(request)
    yield loaded
    loaded.close()


@pytest.fixture(scope="package")
def replaying_tiny() -> Iterator[Loaded]:
    request = LoadRequest(
        replay_clock=True, settings=SETTINGS, table_sizes=TINY_TABLES, ring_bytes=RING_BYTES_MIN
    )
    loaded = load(request)
    yield loaded
    loaded.close()


@pytest.fixture
def kernel(replaying: Loaded) -> Iterator[Kernel]:
    yield from use(replaying)


@pytest.fixture
def tiny(replaying_tiny: Loaded) -> Iterator[Kernel]:
    """Room for four connections and 256 mid-stream ones, and the smallest rings."""
    yield from use(replaying_tiny)


def use(loaded: Loaded) -> Iterator[Kernel]:
    kernel = Kernel(loaded)
    kernel.reset()
    before = pin()
    yield kernel
    os.sched_setaffinity(0, before)
    kernel.check()
