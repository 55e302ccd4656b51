"""A short coverage-guided run of every fuzz target, from its seeds alone."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.run import Outcome, run
from tests.fuzz.targets import NAMES

SECONDS = 2
"""Of each target, behind its seeds."""
AT_ONCE = 2

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris not installed: it has wheels for x86_64 only",
)


def findings(outcomes: list[Outcome], cache: Path) -> str:
    """What went wrong, with the inputs: the test's folder may not outlive its machine."""
    told = [f"{outcome.target}: {outcome.finding}" for outcome in outcomes if outcome.finding]
    told += [f"{path.name}: {path.read_bytes().hex()}" for path in (cache / "findings").iterdir()]
    return "\n".join(told)


def test_nothing_is_found_in_a_short_run(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda name: run(name, SECONDS, tmp_path), NAMES))
    assert findings(outcomes, tmp_path) == ""
    # That it ran, and was guided.
    assert [each.target for each in outcomes if not (each.executions and each.edges)] == []


def test_a_finding_is_told_with_its_input(tmp_path: Path) -> None:
    told = findings([run("self_test", SECONDS, tmp_path)], tmp_path)
    assert "ValueError: what was to be found" in told
    assert b"unsound".hex() in told
