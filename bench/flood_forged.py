"""Floods of forged frames at default settings, while honest clients make TLS sessions.

SYNs and hellos come from spoofed sources. Bytes outside of the window and RSTs are forged into the
honest sessions themselves, whose addresses and ports are known here.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterable, Iterator
from functools import partial

from bench import visits
from bench.figures import Line
from bench.flood_memory import spoofed_hellos
from bench.packets import Burst, link_address, spoofed_syns
from bench.spoofed import GHOSTS, frames_of
from deckwire.lab import Lab
from tests.support.bpf_frames import Talk, hello, summed

SECTION = "floods of forged frames, default settings"

_HELLOS, _SYNS, _FORGED = 20_000, 100_000, 20_000
"""Frames a second."""
_FRAMES = 100_000
"""Frames of a burst, which is repeated."""


def measure(lab: Lab, sessions: int, seconds: float) -> list[Line]:
    """Run each flood while `sessions` are made within `seconds`, and as many after it."""
    flooded = lab.deckies[0]
    # Replies to the spoofed sources go to the client, which drops them.
    for family, via in (("-4", lab.client.v4), ("-6", lab.client.v6)):
        lab.run(flooded, ["ip", family, "route", "replace", "default", "via", via])
    ghosts = [word for address in GHOSTS for word in ("--decky", f"{address}=ghost")]
    floods: list[tuple[str, Iterable[bytes], int, list[str]]] = [
        ("spoofed hellos", frames_of(lab, spoofed_hellos(), *GHOSTS), _HELLOS, ghosts),
        ("spoofed SYNs", spoofed_syns(lab, flooded, _FRAMES), _SYNS, []),
        ("bytes outside of the windows", _forged(lab, sessions, "PA"), _FORGED, []),
        ("forged RSTs", _forged(lab, sessions, "R"), _FORGED, []),
    ]
    lines = []
    for what, frames, rate, options in floods:
        burst = Burst(lab, list(itertools.islice(frames, _FRAMES)))
        flood = partial(_flood, burst, rate)
        name = f"{rate:,} {what} a second"
        try:
            lines += visits.around(lab, SECTION, name, sessions, seconds, flood, options)
        finally:
            burst.close()
    return lines


def _flood(burst: Burst, rate: int, begun: threading.Event, over: threading.Event) -> int:
    return burst.repeat(rate, begun, over.is_set)


def _forged(lab: Lab, sessions: int, flags: str) -> Iterator[bytes]:
    """Endless frames of the honest clients' 4-tuples that their decky does not take."""
    chosen = random.Random(4)
    decky = lab.deckies[1]
    link = link_address(lab, decky) + link_address(lab, lab.client)
    decoy = hello(1, 400)
    for visitor in itertools.cycle(visits.visitors(lab, sessions).all):
        server = decky.v6 if ":" in visitor.address else decky.v4
        talk = Talk(visitor.address, server, visitor.port, 443, chosen.getrandbits(32),
                    chosen.getrandbits(32))  # fmt: skip
        made = talk.c("R", 1) if flags == "R" else talk.c(flags, 1, 1, decoy)
        yield link + summed(made)[12:]
