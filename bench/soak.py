"""Mixed traffic for a chosen time, to find memory that grows."""

from __future__ import annotations

import time

from bench.figures import Goal, Line, Spread, ratio
from bench.handshakes import shake_hands
from bench.load import bulk
from bench.observers import Agent
from bench.packets import Burst, spoofed_syns
from bench.real_sessions import LOSSES
from deckwire.lab import Lab

SECTION = "soak"

_SYNS = 20_000


def measure(lab: Lab, minutes: float) -> list[Line]:
    """Repeat handshakes, bulk with handshakes, and SYNs. Memory is read after each turn."""
    decky = lab.deckies[1]
    burst = Burst(lab, spoofed_syns(lab, lab.deckies[0], _SYNS))
    agent = Agent(lab)
    resident, maps = [], []
    connections = 0
    end = time.monotonic() + 60 * minutes
    try:
        while time.monotonic() < end:
            connections += shake_hands(lab, decky, 3)
            with bulk(lab, lab.deckies[2]):
                connections += shake_hands(lab, decky, 2)
            burst.send()
            resident.append(agent.resident_bytes() / 1e6)
            maps.append(agent.map_bytes() / 1e6)
        sums = agent.stop()
    finally:
        burst.close()
    lost = {name: sums[name] for name in LOSSES if sums.get(name)}
    note = ", ".join(f"{name} {count:,}" for name, count in lost.items()) or "no loss counted"
    # The first quarter fills caches and tables.
    settled = len(resident) // 4
    return [
        _grown("resident memory of the agent", resident, settled, Goal("≤", 60), note),
        _grown("kernel memory of its maps", maps, settled, None, f"{connections:,} handshakes"),
    ]


def _grown(what: str, sizes: list[float], settled: int, goal: Goal | None, note: str) -> Line:
    before = sizes[settled]
    return Line(
        SECTION,
        f"{what} at the end",
        Spread(sizes[-1], min(sizes), max(sizes)),
        "MB",
        f"after a quarter of the time {before:.1f} MB",
        before,
        ratio(sizes[-1], before),
        goal,
        note,
    )
