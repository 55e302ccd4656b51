"""The time from the start of the agent to its message that it is ready."""

from __future__ import annotations

import subprocess
import time

from bench.figures import Goal, Line, Spread, ratio
from bench.observers import P0F, TCPDUMP, Agent, installed, sniffer
from deckwire.lab import Lab

SECTION = "start"


def measure(lab: Lab, rounds: int) -> list[Line]:
    """Measure against an empty Python program and the installed sniffers, in the same rounds."""
    others = [name for name in (TCPDUMP, P0F) if name in installed()]
    ours, python = [], []
    theirs: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(rounds):
        agent = Agent(lab)
        ours.append(agent.ready_seconds)
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
    baselines = {"an empty Python program": python, **theirs}
    return [
        Line(
            SECTION,
            "ready after its start",
            ready,
            "s",
            f"{name} {Spread.of(times).median:.3f} s",
            Spread.of(times).median,
            ratio(ready.median, Spread.of(times).median),
            Goal("≤", 1) if times is python else None,
        )
        for name, times in baselines.items()
    ]
