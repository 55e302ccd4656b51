"""The time of the programs for one frame of a flood, as the kernel accounts it.

No table knows the frames, except where a row says so. The tables are full.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench import cpu
from bench.figures import Goal, Line, Spread, ratio
from bench.live_runs import accounting, mean_ns
from bench.observers import DECKWIRE, NOOP, watching
from bench.packets import Burst, spoofed_syns
from bench.spoofed import PSH_ACK, Segment, frames_of
from deckwire.lab import Lab

SECTION = "programs in a flood"

_ACK = 0x10
_SETTLE_SECONDS = 0.5


class _Flood(NamedTuple):
    what: str
    counter: str
    """The counter that each frame raises."""
    frames: list[bytes]


def measure(lab: Lab, rounds: int, count: int) -> list[Line]:
    """Send floods of `count` frames, once a round past each observer."""
    lines: list[Line] = []
    for flood in _floods(lab, count):
        burst = Burst(lab, flood.frames)
        cpu.pin(0, cpu.CLIENTS)
        try:
            lines += _measured(lab, burst, flood, rounds)
        finally:
            cpu.pin(0, cpu.ALL)
            burst.close()
    return lines


def _floods(lab: Lab, count: int) -> Iterator[_Flood]:
    """To a decky that has no route to the sources, so it cannot answer."""
    decky = lab.deckies[0]
    data = random.Random(1)

    def ack() -> Segment:
        return _ACK, b"", b""

    def payload() -> Segment:
        return PSH_ACK, b"", data.randbytes(100)

    def segments(make: Callable[[], Segment]) -> list[bytes]:
        return list(itertools.islice(frames_of(lab, make, decky.v4, decky.v6), count))

    yield _Flood("SYN of a new source", "frames_syn", spoofed_syns(lab, decky, count))
    # Enough sources that no 4-tuple repeats in a burst: each of them has 60,000 ports.
    yield _Flood("SYN of a known source", "frames_syn", spoofed_syns(lab, decky, count, 4))
    again = spoofed_syns(lab, decky, count, 1)
    yield _Flood("SYN on a 4-tuple that has another", "frames_syn", again)
    yield _Flood("ACK of no connection", "frames_unattached", segments(ack))
    yield _Flood("payload of no connection", "frames_midstream", segments(payload))


def _measured(lab: Lab, burst: Burst, flood: _Flood, rounds: int) -> list[Line]:
    taken: dict[str, list[float]] = defaultdict(list)
    counted: list[int] = []
    for number in range(rounds):
        for name in (NOOP, DECKWIRE) if number % 2 else (DECKWIRE, NOOP):
            with watching(lab, name) as agent:
                # The first time fills the tables.
                burst.send()
                with accounting():
                    burst.send()
                    time.sleep(_SETTLE_SECONDS)
                    taken[name].append(mean_ns(agent.pid if agent else os.getpid()))
                if agent is not None:
                    counted.append(agent.stop()[flood.counter])
    added = Spread.of(a - b for a, b in zip(taken[DECKWIRE], taken[NOOP], strict=True))
    base = Spread.of(taken[NOOP]).median
    sent = 2 * burst.count
    shares = Spread.of(100 * min(number / sent, 1.0) for number in counted)
    return [
        Line(
            SECTION,
            flood.what,
            added,
            "ns",
            f"no-op TCX {base:.0f} ns",
            base,
            ratio(base + added.median, base),
        ),
        Line(
            SECTION,
            f"counted as {flood.counter}",
            shares,
            "%",
            f"{sent:,} sent",
            sent,
            shares.median / 100,
            Goal("≥", 100),
        ),
    ]
