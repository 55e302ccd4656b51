"""A SYN flood from spoofed sources at full speed, while a client makes real TLS sessions."""

from __future__ import annotations

import threading
import time

from bench import cpu, real_sessions
from bench.figures import Goal, Line, Spread, ratio
from bench.observers import Agent
from bench.packets import Burst, spoofed_syns
from deckwire.lab import Lab

SECTION = "SYN flood"
HALF_OPEN = 79_872
"""MAX_HALF_OPEN of bpf/limits.h."""


def measure(lab: Lab, sessions: int, sources: int) -> list[Line]:
    """Send SYNs from `sources` addresses again and again, to a decky that answers them all."""
    flooded, real = lab.deckies[0], lab.deckies[1]
    # Replies to the spoofed sources go to the client, which drops them.
    lab.run(flooded, ["ip", "route", "add", "default", "via", lab.client.v4])
    burst = Burst(lab, spoofed_syns(lab, flooded, sources))
    try:
        alone = _rate(burst)
        agent = Agent(lab, ["--dedup-ttl", "0"])
        with_agent = _rate(burst)
        outcome = real_sessions.under_attack(
            lab, agent, real, sessions, lambda over: _flood(burst, over)
        )
        sums = agent.stop()
    finally:
        burst.close()
    held = sums["half_open_inserts"] - sums["half_open_deletes"] - sums["half_open_evicted"]
    return [
        Line(
            SECTION,
            "SYNs a second from one CPU, the agent watching",
            Spread.of([with_agent]),
            "",
            f"no agent {alone:,.0f} a second",
            alone,
            ratio(with_agent, alone),
        ),
        Line(
            SECTION,
            "half-open connections held at the end",
            Spread.of([held]),
            "",
            f"{sums['frames_syn']:,} SYNs counted",
            sums["frames_syn"],
            ratio(held, sums["frames_syn"]),
            Goal("≤", HALF_OPEN),
        ),
        *real_sessions.lines(SECTION, "in the flood", real, agent, outcome),
    ]


def _rate(burst: Burst) -> float:
    cpu.pin(0, cpu.CLIENTS)
    started, sent = time.monotonic(), burst.send()
    took = time.monotonic() - started
    cpu.pin(0, cpu.ALL)
    return sent / took


def _flood(burst: Burst, over: threading.Event) -> None:
    while not over.is_set():
        burst.send()
