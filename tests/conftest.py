"""Fixtures and settings for test modules of more than one folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from deckwire.compiled import FORM
from deckwire.kernel import loader_process
from tests.support.replaying import ReplayLab

# The time of an example depends on how busy the machine is. It is no property of the code.
hypothesis.settings.register_profile("deckwire", deadline=None)
hypothesis.settings.load_profile("deckwire")
# An emulated CPU of a busy machine compiles for more than five minutes. Tests have their own limit.
loader_process.LOADER_SECONDS = 3_600.0


LIVE = Path(__file__).with_name("netns")
"""Every test in this folder makes its own namespaces, so it needs root."""


def pytest_configure() -> None:
    """`make test-compiled` must not test the sources."""
    if os.environ.get("DECKWIRE_FORM") == "compiled" and FORM.why_not() is not None:
        raise pytest.UsageError(f"the sources would run: {FORM.why_not()}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    is_root, is_compiled = not os.geteuid(), FORM.why_not() is None
    for item in items:
        needs_root = item.get_closest_marker("root") or LIVE in item.path.parents
        if needs_root and not is_root:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if item.get_closest_marker("interpreted") and is_compiled:
            item.add_marker(pytest.mark.skip(reason="compiled modules run"))


@pytest.fixture(scope="module")
def lab() -> Iterator[ReplayLab]:
    """The loaded programs, once per test module."""
    if os.geteuid():
        pytest.skip("needs root: loads programs")
    with ReplayLab() as lab:
        yield lab
