"""What test modules of more than one folder need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from replaying import ReplayLab


@pytest.fixture(scope="module")
def lab() -> Iterator[ReplayLab]:
    """The programs, loaded once a module."""
    if os.geteuid():
        pytest.skip("needs root: loads programs")
    with ReplayLab() as lab:
        yield lab
