"""Loads the programs once, and prints a table of the fields checked at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.replaying import ReplayLab
from tests.support.shared import CORPUS, captures, expected

_SCORE: dict[str, dict[str, int]] = {}


@pytest.fixture(scope="session")
def lab() -> Iterator[ReplayLab]:
    with ReplayLab() as lab:
        yield lab


@pytest.fixture(scope="session")
def score() -> dict[str, dict[str, int]]:
    return _SCORE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _SCORE:
        return
    right: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for name, fields in _SCORE.items():
        right.update(fields)
        for stream in expected(name)["streams"]:
            if stream["transport"] == "tcp":
                there.update(field for field in fields if field in stream)
    terminalreporter.section(f"corpus: {len(_SCORE)} of {len(captures())} captures")
    for field in sorted(there):
        terminalreporter.line(f"{field:8} {right[field]:4} of {there[field]:4}")
    terminalreporter.line(f"SYNs with the classes of their source's numbers: {right['isn_class']}")
    terminalreporter.line(f"from {CORPUS.name}; see the known differences in test_corpus.py")
