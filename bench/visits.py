"""Honest TLS sessions during a flood and right after it, each from an address of its own.

The agent runs with its default settings. A session counts if every event of it was emitted.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench import cpu
from bench.figures import Goal, Line, Spread, ratio
from bench.observers import Agent
from deckwire.lab import Lab, Node
from deckwire.resilience.containment import Where

FIRST_PORT = 30_000
PORT = 443
"""Of the deckies. Floods of connections have another one."""
REPORTED = ("tls_client_hello", "tls_session", "tcp_flow_timing")
RESIDENT = Goal("≤", 70)
"""Megabytes of resident memory in floods of single frames."""

_DRAIN_SECONDS = 60.0
_STOP_SECONDS = 60.0
_TRIES = 3


class Visitor(NamedTuple):
    """The client's end of a session."""

    address: str
    port: int


class Group(NamedTuple):
    """The sessions during the flood, and those right after it."""

    during: list[Visitor]
    after: list[Visitor]

    @property
    def all(self) -> list[Visitor]:
        return [*self.during, *self.after]


def visitors(lab: Lab, count: int) -> Group:
    """`count` visitors for each time. IPv4 and IPv6 take turns, and no address is used twice."""
    v4, v6 = lab.client.ipv4, lab.client.ipv6
    return Group(
        [Visitor((v6 if n % 2 else v4)[n], FIRST_PORT + n) for n in range(count)],
        [Visitor((v4 if n % 2 else v6)[n], FIRST_PORT + count + n) for n in range(count)],
    )


def make(lab: Lab, decky: Node, group: Sequence[Visitor], seconds: float = 0) -> int:
    """Make one session for each visitor, spread over `seconds`; how many were served."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    due, served = time.monotonic(), 0
    for visitor in group:
        for _ in range(_TRIES):
            with contextlib.suppress(OSError):
                _session(lab, decky, visitor, context)
                served += 1
                break
        due += seconds / len(group)
        time.sleep(max(due - time.monotonic(), 0))
    return served


def _session(lab: Lab, decky: Node, visitor: Visitor, context: ssl.SSLContext) -> None:
    is_v6 = ":" in visitor.address
    with lab.client.inside():
        plain = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
    with plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.settimeout(10)
        plain.bind(visitor)
        plain.connect((decky.v6 if is_v6 else decky.v4, PORT))
        with context.wrap_socket(plain, suppress_ragged_eofs=True) as tls:
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while tls.recv(65_536):
                pass


def around(
    lab: Lab,
    section: str,
    what: str,
    sessions: int,
    seconds: float,
    flood: Callable[[threading.Event, threading.Event], int],
    options: Sequence[str] = (),
    resident_goal: Goal = RESIDENT,
    unit: str = "frames",
    more: Callable[[Agent], list[Line]] = lambda _: [],
) -> list[Line]:
    """Run a flood; make sessions during and after it.

    Args:
        what: the flood in the name of each line.
        sessions: their number during the flood, and the number after it.
        seconds: the sessions during the flood are spread over so much time.
        flood: it sends, sets the first event when the sessions may begin, and returns the number
            of frames it has sent once the second event is set.
        options: of the agent, whose other settings are the defaults.
        unit: what the flood counts.
        more: makes further lines of the agent, which has ended then.
    """
    decky, group = lab.deckies[1], visitors(lab, sessions)
    agent = Agent(lab, options)
    before, own = agent.resident_bytes(), agent.seconds()
    begun, over = threading.Event(), threading.Event()
    sent: list[int] = []
    failures: list[BaseException] = []

    def run() -> None:
        cpu.pin(0, cpu.CLIENTS)
        try:
            sent.append(flood(begun, over))
        except BaseException as error:  # raised again in the caller's thread
            failures.append(error)
        finally:
            begun.set()

    started = time.monotonic()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    begun.wait()
    try:
        served = make(lab, decky, group.during, seconds)
    finally:
        over.set()
        thread.join()
    took = time.monotonic() - started
    if failures:
        raise failures[0]
    resident = agent.resident_bytes()
    share = (agent.seconds() - own) / took
    served_after = make(lab, decky, group.after)
    addresses = {visitor.address for visitor in group.all}
    agent.wait_for(lambda _: whole(agent, addresses) >= len(group.all), _DRAIN_SECONDS)
    resident = max(resident, agent.resident_bytes())
    died = agent.status() is not None
    status = agent.end(_STOP_SECONDS)
    sums = agent.last_sums()
    note = f"died: {agent.last_words()}" if died else _cost(sums)
    rate = f"{sent[0]:,} {unit} at {sent[0] / took:,.0f} a second"
    return [
        _count(section, f"honest sessions reported, during {what}", agent, group.during,
               f"{served} served, {rate}"),
        _count(section, f"honest sessions reported, right after {what}", agent, group.after,
               f"{served_after} served"),
        Line(section, f"resident memory of the agent, {what}", Spread.of([resident / 1e6]), "MB",
             f"before {before / 1e6:.1f} MB", before / 1e6, ratio(resident, before), resident_goal,
             f"{share:.2f} CPUs of the agent"),
        Line(section, f"exit status and internal failures, {what}",
             Spread.of([status + sum(sums.get(where, 0) for where in Where)]), "", "0", 0, 1,
             Goal("≤", 0), note),
        *more(agent),
    ]  # fmt: skip


def whole(agent: Agent, addresses: set[str]) -> int:
    """The number of these sources for which every event was emitted."""
    return len(set.intersection(*reported(agent, addresses).values()))


def reported(agent: Agent, addresses: set[str]) -> dict[str, set[str]]:
    """For each event of a session, the sources among `addresses` for which it was emitted."""
    found: dict[str, set[str]] = {name: set() for name in REPORTED}
    for name, fields in agent.events():
        if name in found and fields["dst_port"] == str(PORT):
            found[name].add(fields["src_ip"])
    return {name: sources & addresses for name, sources in found.items()}


def _count(section: str, what: str, agent: Agent, group: list[Visitor], note: str) -> Line:
    addresses = {visitor.address for visitor in group}
    number, goal = whole(agent, addresses), len(group)
    each = ", ".join(f"{name} {len(found)}" for name, found in reported(agent, addresses).items())
    return Line(
        section,
        what,
        Spread.of([number]),
        "",
        f"{goal} made",
        goal,
        ratio(number, goal),
        Goal("≥", goal),
        note if number == goal else f"{note}; {each}",
    )


def _cost(sums: dict[str, int]) -> str:
    """The counters that show what a flood did."""
    names = (
        *("frames_refused", "frames_midstream", "half_open_evicted", "midstream_evicted"),
        *("flow_inserts", "flows_evicted", "flow_insert_failed", "flow_source_capped"),
        *(
            "samples_lost",
            "tls_evicted",
            "heads_evicted",
            "tls_not_admitted",
            "events_dropped",
            "dedup_evicted",
        ),
    )
    return ", ".join(f"{name} {sums[name]:,}" for name in names if sums.get(name)) or "no loss"
