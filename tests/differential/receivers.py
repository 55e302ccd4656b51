"""What real TCP and TLS receivers accept, against the events of `deckwire replay`.

The programs that judge are with the shared captures, and are no part of the project. They need root
and name the libraries that are not installed.

    python -m tests.differential.receivers --seed 1 --count 1000
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.shared import CHECKOUT, SHARED

TCP_PERCENT = 99.9
"""The share that is right, at least. docs/evasion.md names what no observer can know."""
DECKWIRE = Path(sys.executable).with_name("deckwire")


def tls(folder: Path, seeds: list[int], count: int, least: float = 1.0) -> list[str]:
    """The command that compares with TLS servers; it fails if less than this share is right."""
    bases = [str(folder / f"tls{seed}") for seed in seeds]
    return [
        *(sys.executable, str(SHARED / "differential/tls_differential.py"), "all", *bases),
        *(f"--seed={seeds[0]}", f"--count={count}", f"--deckwire={DECKWIRE}", f"--min={least}"),
        "--show=20",
    ]


def tcp(folder: Path, seeds: list[int], count: int, least: float = 100) -> list[str]:
    """The command that compares with Linux's own TCP; `least` is in percent."""
    return [
        *(sys.executable, str(SHARED / "differential/tcp_differential.py"), "run"),
        *("--seed", *map(str, seeds), f"--count={count}", f"--out={folder}"),
        *(f"--deckwire={DECKWIRE}", f"--min={least}", "--wrong=20"),
    ]


def connection(folder: Path, seed: int, index: int) -> list[str]:
    """The command that makes one connection of a seed, and compares all that is known of it."""
    return [
        *(sys.executable, str(SHARED / "differential/tcp_differential.py"), "run", "--strict"),
        *(f"--seed={seed}", f"--only={index}", f"--out={folder}", f"--deckwire={DECKWIRE}"),
        *("--count=1000", "--min=100", "--wrong=1"),
    ]


def cases() -> list[str]:
    """The command that checks the captures of reported faults."""
    return [sys.executable, str(SHARED / "cases/check.py"), str(SHARED / "cases")]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run one of the commands in the checkout."""
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1_000, help="connections of each kind")
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        print(f"{SHARED} is not there: real receivers are left out")
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        seeds = [arguments.seed]
        for command in (
            tls(Path(folder), seeds, arguments.count),
            tcp(Path(folder), seeds, arguments.count, TCP_PERCENT),
            cases(),
        ):
            done = run(command)
            print(done.stdout, done.stderr, sep="")
            failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
