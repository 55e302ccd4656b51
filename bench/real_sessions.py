"""Real TLS sessions during an attack: how many the agent reports, and what that costs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from bench import cpu
from bench.figures import Goal, Line, Spread, ratio
from bench.handshakes import shake_hands
from bench.observers import Agent
from deckwire.lab import Lab, Node

_DRAIN_SECONDS = 20.0

LOSSES = (
    *("samples_lost", "half_open_failed", "flow_insert_failed", "flow_source_capped"),
    *("midstream_failed", "tls_not_admitted", "tls_evicted", "events_dropped"),
)
"""Sums of capture_stats that count something real for which no event was emitted."""


class Outcome(NamedTuple):
    """What was measured during one attack."""

    sessions: int
    """Real sessions, as their client counts them."""
    agent_share: float
    """CPU of the agent during the attack: 1 is one CPU in full use."""
    busy_share: float
    """CPU of the whole machine during the attack, in CPUs."""
    resident: tuple[int, int]
    """Resident memory of the agent in bytes, before and after."""
    maps: tuple[int, int]
    """Kernel memory of its maps in bytes, before and after."""


def under_attack(
    lab: Lab, agent: Agent, decky: Node, sessions: int, attack: Callable[[threading.Event], None]
) -> Outcome:
    """Make `sessions` to `decky` while `attack` runs in a thread, until its event is set."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        cpu.pin(0, cpu.CLIENTS)
        try:
            attack(over)
        except BaseException as error:  # raised again in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    resident, maps = agent.resident_bytes(), agent.map_bytes()
    started, busy, own = time.monotonic(), cpu.busy_seconds(), agent.seconds()
    thread.start()
    made = 0
    try:
        while made < sessions and not failures:
            made += shake_hands(lab, decky, 2)
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
    took = time.monotonic() - started
    shares = (agent.seconds() - own) / took, (cpu.busy_seconds() - busy) / took
    agent.wait_for(lambda counts: counts["tls_session"] >= made, _DRAIN_SECONDS)
    return Outcome(made, *shares, (resident, agent.resident_bytes()), (maps, agent.map_bytes()))


def lines(section: str, what: str, decky: Node, agent: Agent, outcome: Outcome) -> list[Line]:
    """Stop the agent and report the sessions it emitted, its CPU, its memory and its losses."""
    # A client may use a port twice: then two connections have the same conn_id.
    reported = len(
        {
            (fields["conn_id"], fields["timestamp"])
            for name, fields in agent.events()
            if name == "tls_session" and fields["dst_ip"] == decky.v4
        }
    )
    sums = agent.stop()
    lost = {name: sums[name] for name in LOSSES if sums.get(name)}
    before, after = (size / 1e6 for size in outcome.resident)
    maps_before, maps_after = (size / 1e6 for size in outcome.maps)
    return [
        Line(
            section,
            f"real TLS sessions reported, {what}",
            Spread.of([min(100 * reported / outcome.sessions, 100.0)]),
            "%",
            f"{outcome.sessions:,} counted by their client",
            outcome.sessions,
            ratio(reported, outcome.sessions),
            Goal("≥", 100),
            ", ".join(f"{name} {count:,}" for name, count in lost.items()) or "no loss counted",
        ),
        Line(
            section,
            f"CPU of the agent, {what}",
            Spread.of([outcome.agent_share]),
            "CPUs",
            f"the whole machine {outcome.busy_share:.2f} CPUs",
            outcome.busy_share,
            ratio(outcome.agent_share, outcome.busy_share),
        ),
        Line(
            section,
            f"resident memory of the agent, {what}",
            Spread.of([after]),
            "MB",
            f"before {before:.1f} MB",
            before,
            ratio(after, before),
            Goal("≤", 60),
        ),
        Line(
            section,
            f"kernel memory of its maps, {what}",
            Spread.of([maps_after]),
            "MB",
            f"before {maps_before:.1f} MB",
            maps_before,
            ratio(maps_after, maps_before),
        ),
    ]
