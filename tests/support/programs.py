"""Programs that live tests need and that `make setup` does not install."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import pytest


def is_installed(name: str) -> bool:
    """Whether there is a command or a Python package of this name."""
    return shutil.which(name) is not None or importlib.util.find_spec(name) is not None


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test if one of these programs is not installed."""
    missing = [name for name in names if not is_installed(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def each_of(programs: Mapping[str, Sequence[str]]) -> list[Any]:
    """A parameter of a test for each program; it is skipped if something it needs is missing."""
    return [pytest.param(name, marks=needs(*wanted)) for name, wanted in programs.items()]
