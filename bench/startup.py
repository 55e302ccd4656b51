"""The time from the start of the agent to its message that it is ready."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import deckwire
from bench.figures import Goal, Line, Spread, ratio
from bench.observers import P0F, TCPDUMP, Agent, installed, sniffer
from deckwire.lab import Lab

SECTION = "start"
COMPILING = "deckwire that compiles at its start"


def measure(lab: Lab, rounds: int) -> list[Line]:
    """Measure against a start that compiles, an empty Python program and the installed sniffers.

    All of them take turns.
    """
    others = [name for name in (TCPDUMP, P0F) if name in installed()]
    ours, python = [], []
    compiling: list[float] = []
    package = lab.directory / "compiling" / "deckwire"
    shutil.copytree(
        Path(deckwire.__file__).parent, package, ignore=shutil.ignore_patterns("objects")
    )
    theirs: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(rounds):
        agent = Agent(lab)
        ours.append(agent.ready_seconds)
        agent.stop()
        agent = Agent(lab, environment=[f"PYTHONPATH={package.parent}"])
        compiling.append(agent.ready_seconds)
        agent.stop()
        for name in others:
            started = time.monotonic()
            process = sniffer(lab, name)
            theirs[name].append(time.monotonic() - started)
            process.terminate()
            process.wait()
        started = time.monotonic()
        subprocess.run(["/usr/bin/python3", "-c", "pass"], check=True)
        python.append(time.monotonic() - started)
    ready = Spread.of(ours)
    baselines = {COMPILING: compiling, "an empty Python program": python, **theirs}
    return [
        Line(
            SECTION,
            "ready after its start",
            ready,
            "s",
            f"{name} {Spread.of(times).median:.3f} s",
            Spread.of(times).median,
            ratio(ready.median, Spread.of(times).median),
            Goal("≤", 0.35 * Spread.of(times).median) if times is compiling else None,
        )
        for name, times in baselines.items()
    ]
