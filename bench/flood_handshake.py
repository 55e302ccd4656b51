"""Completed handshakes from many sources until their table is full, and real sessions then.

The frames of both ends enter by the client's wire, as on a mirror port. Half of the sources are
IPv6, each in its own /64. The agent runs with its default settings.
"""

from __future__ import annotations

import threading
import time

from bench import visits
from bench.figures import Goal, Line, Spread, ratio
from bench.packets import Burst, source_address
from deckwire.lab import Lab
from tests.support.bpf_frames import LINUX_OPTIONS, Talk

SECTION = "floods of completed handshakes"
GHOST, GHOST6 = "198.18.9.9", "2001:db8::9:9"
"""Deckies whose addresses no node has."""

RESIDENT = Goal("≤", 80)
"""Megabytes. Each source has windows of its own, for three events."""

_FRAMES = 3
_TICK_SECONDS = 0.01
_BURST_CONNECTIONS = 50_000
_PORTS = 60_000


def measure(lab: Lab, sources: int, rate: int, seconds: int, sessions: int) -> list[Line]:
    """Send `rate` handshakes a second for `seconds` from `sources`, who fill the table.

    `sessions` real TLS sessions are made in the last quarter of that time, and as many after it.
    """
    what = f"{rate * seconds:,} handshakes from {sources:,} sources"
    bursts = [
        Burst(lab, _frames(first, min(_BURST_CONNECTIONS, rate * seconds - first), sources))
        for first in range(0, rate * seconds, _BURST_CONNECTIONS)
    ]
    reached: list[float] = []

    def flood(begun: threading.Event, over: threading.Event) -> int:
        sent, took = _paced(bursts, rate, begun, over)
        reached.append(sent / _FRAMES / took)
        return sent

    ghosts = ["--decky", f"{GHOST}=ghost", "--decky", f"{GHOST6}=ghost"]
    try:
        lines = visits.around(lab, SECTION, what, sessions, seconds / 4, flood, ghosts, RESIDENT)
    finally:
        for burst in bursts:
            burst.close()
    return [
        *lines,
        Line(SECTION, f"handshakes a second, in {what}", Spread.of(reached), "", f"{rate:,} wanted",
             rate, ratio(reached[0], rate)),
    ]  # fmt: skip


def _frames(first: int, count: int, sources: int) -> list[bytes]:
    frames = []
    for number in range(first, first + count):
        source, port = number % sources, 1_024 + number // sources % _PORTS
        if source % 2:
            talk = Talk(f"2001:db8:f:{source:x}::1", GHOST6, port, 8_080)
        else:
            talk = Talk(source_address(source), GHOST, port, 8_080)
        frames += [
            talk.c("S", options=LINUX_OPTIONS),
            talk.s("SA", 0, 1, options=LINUX_OPTIONS),
            talk.c("A", 1, 1),
        ]
    return frames


def _paced(
    bursts: list[Burst], rate: int, begun: threading.Event, over: threading.Event
) -> tuple[int, float]:
    """Send all frames, or less if it is over; their number, and the seconds that this took.

    Three quarters have been sent when the first event is set.
    """
    step = max(round(rate * _TICK_SECONDS), 1) * _FRAMES
    total, sent = sum(burst.count for burst in bursts), 0
    started = due = time.monotonic()
    for burst in bursts:
        for first in range(0, burst.count, step):
            if over.is_set():
                break
            sent += burst.send(first, step)
            if sent > total * 3 // 4:
                begun.set()
            due += _TICK_SECONDS
            time.sleep(max(due - time.monotonic(), 0))
    return sent, time.monotonic() - started
