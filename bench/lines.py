"""The time to make a line of an event, in each format, and to give the event its id."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from bench.figures import Line, Spread, ratio
from deckwire.events.event import Event
from deckwire.events.identity import Identity
from deckwire.output.formats import Formats, Headers
from tests.support.conversation import DECKY, Conversation
from tests.support.flights import handshake
from tests.support.replaying import ReplayLab

SECTION = "lines"
_FORMATS = ("syslog", "json", "ecs")
_AT_ONCE = 100


def measure(rounds: int) -> list[Line]:
    """Format the six events of a TLS 1.2 connection again and again, by CPU time."""
    flight = handshake(ssl.TLSVersion.TLSv1_2)
    talk = Conversation().open().send(flight.client).answer(flight.server).close()
    with ReplayLab() as lab:
        events = lab.frames(talk.frames, [DECKY])
    formats = Formats()
    times = {
        name: Spread.of(_microseconds(formats.get(name, Headers()).line, events, rounds))
        for name in _FORMATS
    }
    times["event_id"] = Spread.of(_stamping(events, rounds))
    base = times["syslog"].median
    return [
        Line(
            SECTION,
            f"one event: {name}",
            spread,
            "µs",
            f"syslog {base:.2f} µs",
            base,
            ratio(spread.median, base),
            note="mean of six events",
        )
        for name, spread in times.items()
    ]


def _microseconds(work: Callable[[Event], object], events: list[Event], rounds: int) -> list[float]:
    """The time of each round for one event."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(_AT_ONCE):
            for event in events:
                work(event)
        found.append((time.process_time() - started) * 1e6 / _AT_ONCE / len(events))
    return found


def _stamping(events: list[Event], rounds: int) -> list[float]:
    stamp = Identity("sensor").stamped
    found = []
    for number in range(rounds):
        # Each event is new, as in a capture.
        made = [
            event._replace(time_ns=event.time_ns + number * _AT_ONCE + at)
            for at in range(_AT_ONCE)
            for event in events
        ]
        started = time.process_time()
        for event in made:
            stamp(event)
        found.append((time.process_time() - started) * 1e6 / len(made))
    return found
