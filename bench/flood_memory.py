"""The memory that floods from spoofed sources cost the agent, with its default settings.

Each packet opens its own suppression window, so this is the cost of everything kept by source. SYNs
go to a decky that answers them. ClientHellos are mid-stream and go to an address that no node has:
there no reset ends the connection in the agent's tables.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from struct import pack

from bench.figures import Goal, Line, Spread, ratio
from bench.flood_hello import client_hello
from bench.observers import Agent
from bench.packets import Burst
from bench.real_sessions import LOSSES
from bench.spoofed import GHOSTS, LINUX_OPTIONS, PSH_ACK, SYN, Segment, frames_of
from deckwire.lab import Lab

SECTION = "memory after floods, default settings"
RATE = 3_000
"""Packets a second."""

_TICK_SECONDS = 0.1
_DRAIN_SECONDS = 5.0
_HELLO_BYTES = 517
_LONGEST_NAME = 253
"""Characters of the longest host name (RFC 1035, 3.1)."""
_GOAL = Goal("≤", 70)


def measure(lab: Lab, seconds: float) -> list[Line]:
    """Run each kind of flood for `seconds`. Each packet has its own source, v4 and v6 in turn."""
    target = lab.deckies[0]
    # Replies to the spoofed sources go to the client, which drops them.
    lab.run(target, ["ip", "-4", "route", "replace", "default", "via", lab.client.v4])
    lab.run(target, ["ip", "-6", "route", "replace", "default", "via", lab.client.v6])
    answering = target.v4, target.v6
    return [
        _line(lab, what, make, answering if answered else GHOSTS, seconds)
        for what, (make, answered) in _KINDS.items()
    ]


def _line(
    lab: Lab, what: str, make: Callable[[], Segment], servers: tuple[str, str], seconds: float
) -> Line:
    agent = Agent(lab, [word for each in GHOSTS for word in ("--decky", f"{each}=ghost")])
    before = agent.resident_bytes() / 1e6
    sent = 0
    frames = frames_of(lab, make, *servers)
    started = due = time.monotonic()
    while due < started + seconds:
        burst = Burst(lab, list(itertools.islice(frames, round(RATE * _TICK_SECONDS))))
        sent += burst.send()
        burst.close()
        due += _TICK_SECONDS
        time.sleep(max(due - time.monotonic(), 0))
    took = time.monotonic() - started
    time.sleep(_DRAIN_SECONDS)
    after = agent.resident_bytes() / 1e6
    sums = agent.stop()
    lost = {name: sums[name] for name in (*LOSSES, "dedup_evicted") if sums.get(name)}
    return Line(
        SECTION,
        f"resident memory, {sent:,} {what} at {sent / took:,.0f} a second",
        Spread.of([after]),
        "MB",
        f"before {before:.1f} MB",
        before,
        ratio(after, before),
        _GOAL,
        ", ".join(
            [
                f"{sums['events_emitted']:,} events",
                *(f"{name} {count:,}" for name, count in lost.items()),
            ]
        ),
    )


def _equal_syns() -> Callable[[], Segment]:
    return lambda: (SYN, LINUX_OPTIONS, b"")


def _varied_syns() -> Callable[[], Segment]:
    """SYNs with NOPs and unknown option kinds: most options fit into 40 bytes that way."""
    chosen = random.Random(2)

    def make() -> Segment:
        options = b""
        while len(options) < 38:
            options += chosen.choice((b"\x01", bytes((chosen.randrange(30, 250), 2)), b"\x04\x02"))
        return SYN, options.ljust(40, b"\x01"), b""

    return make


def spoofed_hellos() -> Callable[[], Segment]:
    """The maker of mid-stream segments with a ClientHello."""
    hello = client_hello(_HELLO_BYTES)
    return lambda: (PSH_ACK, b"", hello)


def _varied_hellos() -> Callable[[], Segment]:
    """ClientHellos of 1,400 bytes, each with another name, cipher suites and extensions."""
    chosen = random.Random(3)

    def make() -> Segment:
        name = chosen.randbytes(_LONGEST_NAME).translate(_LETTERS)
        suites = chosen.randbytes(2 * 200)
        extensions = [pack("!HHHBH", 0, 5 + len(name), 3 + len(name), 0, len(name)) + name]
        # Extensions without a body, of kinds that are not assigned.
        kinds = chosen.sample(range(20_000, 65_000), 120)
        extensions += [pack("!HH", kind, 0) for kind in kinds]
        body = b"".join(extensions)
        message = b"".join(
            (
                *(b"\x03\x03", chosen.randbytes(32), b"\0", pack("!H", len(suites)), suites),
                *(b"\x01\0", pack("!H", len(body)), body),
            )
        )
        message = b"\x01" + len(message).to_bytes(3) + message
        return PSH_ACK, b"", pack("!BHH", 22, 0x0301, len(message)) + message

    return make


_LETTERS = bytes(ord("a") + byte % 26 for byte in range(256))

_KINDS: dict[str, tuple[Callable[[], Segment], bool]] = {
    "spoofed SYNs": (_equal_syns(), True),
    "spoofed SYNs, each with different options,": (_varied_syns(), True),
    "spoofed mid-stream ClientHellos": (spoofed_hellos(), False),
    "spoofed mid-stream ClientHellos, each different,": (_varied_hellos(), False),
}
"""The maker of the segments, and whether a decky replies."""
