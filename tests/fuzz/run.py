"""Runs the fuzz targets one after another, each for its share of the time, and tells the figures.

Corpora and findings stand in the cache directory, not in the repository: the next run goes on
where this one stopped.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from tests.fuzz.targets import NAMES  # noqa: E402 - the tests are no installed package

LONGEST_INPUT = 2_048
SLOWEST_S = 10
"""Seconds after which one input is a finding."""
MEMORY_MB = 1_024

_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PROGRESS = re.compile(r"^#(\d+)\s.* cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
_EXCEPTION = re.compile(r"=== Uncaught Python exception: ===\n(.*)")
_ARTIFACT = re.compile(r"Test unit written to (\S+)")


class Outcome(NamedTuple):
    """What one target's run came to."""

    target: str
    executions: int
    edges: int
    """Edges of the instrumented bytecode of deckwire that were reached."""
    features: int
    """Edges told apart by how often they were passed, and comparisons."""
    corpus: int
    """Inputs kept because each of them reaches something new."""
    finding: str
    """Path and first line of what went wrong; "" if nothing did."""


def main() -> int:
    """The exit status: 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="time of all targets together")
    parser.add_argument("--target", choices=NAMES, action="append", help="only this one")
    parser.add_argument("--cache", type=Path, default=_cache(), help="corpora and findings")
    arguments = parser.parse_args()
    targets = arguments.target or NAMES
    seconds = max(arguments.seconds // len(targets), 1)
    outcomes = []
    print(
        f"{'target':20} {'executions':>12} {'edges':>7} {'features':>9} {'corpus':>7}", flush=True
    )
    for target in targets:
        outcome = run(target, seconds, arguments.cache)
        outcomes.append(outcome)
        _, *figures, finding = outcome
        print("{:20} {:>12,} {:>7,} {:>9,} {:>7,}".format(target, *figures), finding, flush=True)
    findings = sum(bool(outcome.finding) for outcome in outcomes)
    total = sum(outcome.executions for outcome in outcomes)
    print(f"{'all':20} {total:>12,} executions, {findings} findings")
    return 1 if findings else 0


def run(target: str, seconds: int, cache: Path) -> Outcome:
    """One target for so many seconds, in a process of its own that a finding may end."""
    corpus, findings = cache / target, cache / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "fuzz.harness", target,
        f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={findings}/{target}-",
        "-print_final_stats=1", str(corpus),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    output = done.stdout + done.stderr
    progress = _PROGRESS.findall(output)
    executed, edges, features, kept = map(int, progress[-1]) if progress else (0, 0, 0, 0)
    if counted := _EXECUTIONS.search(output):
        executed = int(counted[1])
    finding = ""
    if done.returncode:
        artifact, exception = _ARTIFACT.search(output), _EXCEPTION.search(output)
        where = artifact[1] if artifact else "no input was kept"
        finding = f"{where}: {exception[1] if exception else output[-300:]}"
    return Outcome(target, executed, edges, features, kept, finding)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "deckwire-fuzz"


if __name__ == "__main__":
    sys.exit(main())
