"""Run the fuzz targets one after another, each for its share of the time, and print the figures.

Corpora and findings are in the cache directory, not in the repository. The next run continues with
the corpora of this one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.targets import NAMES

CHECKOUT = Path(__file__).resolve().parents[2]

LONGEST_INPUT = 2_048
SLOWEST_S = 10
"""An input that takes longer than this number of seconds is a finding."""
MEMORY_MB = 1_024

_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PROGRESS = re.compile(r"^#(\d+)\s.* cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
_EXCEPTION = re.compile(r"=== Uncaught Python exception: ===\n(.*)")
_ARTIFACT = re.compile(r"Test unit written to (\S+)")


class Outcome(NamedTuple):
    """The result of fuzzing one target."""

    target: str
    executions: int
    edges: int
    """Number of edges reached in the instrumented bytecode of deckwire."""
    features: int
    """Number of libFuzzer's features: edges by how often they were passed, and comparisons."""
    corpus: int
    """Number of inputs kept, because each of them reaches a new feature."""
    finding: str
    """Path of the input and first line of the exception; "" without a finding."""


def main() -> int:
    """Run the targets; return exit status 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="time for all targets together")
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
    """Fuzz one target for `seconds` in a process of its own, because a finding ends the process."""
    corpus, findings = cache / target, cache / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "tests.fuzz.harness", target,
        f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={findings}/{target}-",
        "-print_final_stats=1", str(corpus),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
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
