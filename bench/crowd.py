"""A hundred thousand open connections at once, made of prepared frames.

The frames of both ends enter by the client's wire, as on a mirror port. So no kernel has to hold
the connections. Their decky is an address that no node has.
"""

from __future__ import annotations

import threading
import time

from bench import real_sessions
from bench.figures import Goal, Line, Spread, ratio
from bench.observers import Agent
from bench.packets import Burst, source_address
from deckwire.lab import Lab
from tests.support.bpf_frames import LINUX_OPTIONS, Talk

SECTION = "connections at once"
GHOST = "198.18.9.9"

_FRAMES = 4
"""Frames of each connection: the handshake and one segment of data."""
_TICK_SECONDS = 0.01
_REST_SECONDS = 10.0


def measure(lab: Lab, sessions: int, connections: int, rate: int) -> list[Line]:
    """Open `connections` at `rate` a second, then make `sessions` real ones meanwhile."""
    real = lab.deckies[1]
    burst = Burst(lab, _frames(connections))
    agent = Agent(lab, ["--dedup-ttl", "0", "--decky", f"{GHOST}=ghost"])
    try:
        resident, maps, own = agent.resident_bytes(), agent.map_bytes(), agent.seconds()
        _paced(burst, rate)
        agent.wait_for(lambda counts: counts["tcp_handshake"] >= connections, 20)
        begun = agent.seconds() - own
        handshakes = agent.counted()["tcp_handshake"]
        own = agent.seconds()
        time.sleep(_REST_SECONDS)
        rest = (agent.seconds() - own) / _REST_SECONDS
        outcome = real_sessions.under_attack(lab, agent, real, sessions, _rest)
        sums = agent.stop()
    finally:
        burst.close()
    outcome = outcome._replace(resident=(resident, outcome.resident[1]))
    outcome = outcome._replace(maps=(maps, outcome.maps[1]))
    ended = sum(
        name == "tcp_flow_timing" and fields["dst_ip"] == GHOST for name, fields in agent.events()
    )
    return [
        _share("handshakes reported", handshakes, connections),
        _share("connections entered in the table", min(sums["flow_inserts"], connections),
               connections),
        _share("ends reported when the agent stops", ended, connections),
        Line(
            SECTION,
            "CPU of the agent while all of them are idle",
            Spread.of([rest]),
            "CPUs",
            f"while they open {begun * rate / connections:.2f} CPUs",
            begun * rate / connections,
            ratio(rest, begun * rate / connections),
        ),
        *real_sessions.lines(SECTION, f"with {connections:,} connections open", real, agent,
                             outcome),
    ]  # fmt: skip


def _frames(connections: int) -> list[bytes]:
    frames = []
    for number in range(connections):
        talk = Talk(source_address(number), GHOST, 1_024 + number % 60_000, 8_080)
        frames += [
            talk.c("S", options=LINUX_OPTIONS),
            talk.s("SA", 0, 1, options=LINUX_OPTIONS),
            talk.c("A", 1, 1),
            talk.c("PA", 1, 1, b"HELLO\r\n"),
        ]
    return frames


def _paced(burst: Burst, rate: int) -> None:
    step = max(round(rate * _TICK_SECONDS), 1) * _FRAMES
    due = time.monotonic()
    for first in range(0, burst.count, step):
        burst.send(first, step)
        due += _TICK_SECONDS
        time.sleep(max(due - time.monotonic(), 0))


def _rest(over: threading.Event) -> None:
    over.wait()


def _share(what: str, count: int, of: int) -> Line:
    share = min(100 * count / of, 100.0)
    return Line(
        SECTION, what, Spread.of([share]), "%", f"{of:,} made", of, ratio(count, of), Goal("≥", 100)
    )
