"""Completed handshakes from many sources until their table evicts, then real sessions.

The frames of both ends enter by the client's wire, as on a mirror port. Half of the sources are
IPv6, each in its own /64. The agent runs with its default settings.
"""

from __future__ import annotations

import ssl
import time

from bench.figures import Goal, Line, Spread, ratio
from bench.observers import Agent
from bench.packets import Burst, source_address
from deckwire.lab import Lab, Node
from deckwire.resilience.containment import Where
from tests.support.bpf_frames import LINUX_OPTIONS, Talk

SECTION = "floods of completed handshakes"
GHOST, GHOST6 = "198.18.9.9", "2001:db8::9:9"
"""Deckies whose addresses no node has."""

_FRAMES = 3
_TICK_SECONDS = 0.01
_BURST_CONNECTIONS = 50_000
_PORTS = 60_000
_REPORTED = ("tls_client_hello", "tls_session", "tcp_flow_timing")
_DRAIN_SECONDS = 60.0
_STOP_SECONDS = 60.0


def measure(lab: Lab, sources: int, rate: int, seconds: int, sessions: int) -> list[Line]:
    """Send `rate` handshakes a second for `seconds` from `sources`, then make real TLS sessions.

    Each session comes from another address of the lab's client. IPv4 and IPv6 take turns.
    """
    what = f"{rate * seconds:,} handshakes from {sources:,} sources"
    bursts = [
        Burst(lab, _frames(first, min(_BURST_CONNECTIONS, rate * seconds - first), sources))
        for first in range(0, rate * seconds, _BURST_CONNECTIONS)
    ]
    agent = Agent(lab, ["--decky", f"{GHOST}=ghost", "--decky", f"{GHOST6}=ghost"])
    try:
        before, own = agent.resident_bytes(), agent.seconds()
        took = _paced(bursts, rate)
        alive = agent.status() is None
        resident = agent.resident_bytes() if alive else 0
        share = (agent.seconds() - own) / took if alive else 0.0
        addresses = _visit(lab, lab.deckies[1], sessions)
        agent.wait_for(lambda _: _whole(_reported(agent, addresses)) == sessions, _DRAIN_SECONDS)
    finally:
        for burst in bursts:
            burst.close()
    died = agent.status() is not None
    status = agent.end(_STOP_SECONDS)
    reported = _reported(agent, addresses)
    each = ", ".join(f"{name} {len(reported[name])}" for name in _REPORTED)
    sums = agent.last_sums()
    failures = sum(sums.get(where, 0) for where in Where)
    counted = ("flow_inserts", "flows_evicted", "flow_insert_failed", "flow_source_capped")
    lost = ", ".join(f"{name} {sums.get(name, 0):,}" for name in counted)
    note = f"died: {agent.last_words()}" if died else f"resident {resident / 1e6:.1f} MB"
    return [
        _line(f"sessions reported whole, after {what}", _whole(reported), sessions, "", each),
        _line(f"exit status, after {what}", status, 0, "at most", note),
        _line(f"internal failures counted, after {what}", failures, 0, "at most", ""),
        Line(SECTION, f"handshakes a second, in {what}", Spread.of([rate * seconds / took]), "",
             f"{rate:,} wanted", rate, ratio(seconds, took), None, lost),
        Line(SECTION, f"CPU of the agent, during {what}", Spread.of([share]), "CPUs",
             f"resident before {before / 1e6:.1f} MB", before / 1e6, ratio(resident, before)),
    ]  # fmt: skip


def _line(what: str, count: int, goal: int, least: str, note: str) -> Line:
    limit = Goal("≤" if least else "≥", goal)
    return Line(
        SECTION, what, Spread.of([count]), "", f"{goal:,}", goal, ratio(count, goal), limit, note
    )


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


def _paced(bursts: list[Burst], rate: int) -> float:
    """Send all frames and return the seconds that this took."""
    step = max(round(rate * _TICK_SECONDS), 1) * _FRAMES
    started = due = time.monotonic()
    for burst in bursts:
        for first in range(0, burst.count, step):
            burst.send(first, step)
            due += _TICK_SECONDS
            time.sleep(max(due - time.monotonic(), 0))
    return time.monotonic() - started


def _visit(lab: Lab, decky: Node, sessions: int) -> list[str]:
    """Make one TLS session from each of `sessions` addresses of the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = lab.client
    addresses = [(client.ipv6 if n % 2 else client.ipv4)[n] for n in range(sessions)]
    for source in addresses:
        server = decky.v6 if ":" in source else decky.v4
        with (
            client.connect(server, 443, source) as plain,
            context.wrap_socket(plain, suppress_ragged_eofs=True) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while tls.recv(65_536):
                pass
    return addresses


def _reported(agent: Agent, addresses: list[str]) -> dict[str, set[str]]:
    """For each event, the sources among `addresses` for which it was emitted."""
    found: dict[str, set[str]] = {name: set() for name in _REPORTED}
    for name, fields in agent.events():
        if name in found:
            found[name].add(fields["src_ip"])
    return {name: sources & set(addresses) for name, sources in found.items()}


def _whole(reported: dict[str, set[str]]) -> int:
    """The number of sources for which every event was emitted."""
    return len(set.intersection(*reported.values()))
