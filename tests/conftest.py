"""What test modules of more than one folder need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.support.replaying import ReplayLab

# How long an example takes says how busy the machine is, and is no property.
hypothesis.settings.register_profile("deckwire", deadline=None)
hypothesis.settings.load_profile("deckwire")


@pytest.fixture(scope="module")
def lab() -> Iterator[ReplayLab]:
    """The programs, loaded once a module."""
    if os.geteuid():
        pytest.skip("needs root: loads programs")
    with ReplayLab() as lab:
        yield lab
