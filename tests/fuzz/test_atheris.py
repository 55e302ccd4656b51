"""A short coverage-guided run of every fuzz target finds nothing."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.run import Outcome, run
from tests.fuzz.targets import NAMES

SECONDS = 2
"""Time for each target after its seeds."""
AT_ONCE = 2

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris not installed: it has wheels for x86_64 only",
)


def findings(outcomes: list[Outcome], cache: Path) -> str:
    """Return the findings with their inputs, because the folder of the test is deleted."""
    lines = [f"{outcome.target}: {outcome.finding}" for outcome in outcomes if outcome.finding]
    lines += [f"{path.name}: {path.read_bytes().hex()}" for path in (cache / "findings").iterdir()]
    return "\n".join(lines)


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda name: run(name, SECONDS, tmp_path), NAMES))
    assert findings(outcomes, tmp_path) == ""
    # Each target ran and reported coverage.
    assert [each.target for each in outcomes if not (each.executions and each.edges)] == []


def test_a_finding_is_reported_with_its_input(tmp_path: Path) -> None:
    report = findings([run("self_test", SECONDS, tmp_path)], tmp_path)
    assert "ValueError: the planted finding" in report
    assert b"unsound".hex() in report
