"""The error of the agent's round-trip times, against the timestamps of the client's kernel.

The true times come from the client's interface. Its kernel stamps the SYN when it leaves, the
SYN-ACK when it arrives and the ACK when it leaves. The client's wire (a veth pair) lies between
that interface and the tap. Its transit time is part of the error, because nobody at the tap can
know it. So the baseline is a packet socket at the tap with the kernel's timestamps: no sniffer
there can do better. It watches twice: without the agent, and at the same time as the agent. At the
same time both see the same frames, so that other work on the machine delays both alike.
"""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from struct import pack

from bench import cpu
from bench.figures import Goal, Line, Spread, percentile, ratio
from bench.load import bulk
from bench.observers import Agent, watching
from bench.stamps import RoundTrips, Stamps
from deckwire.lab import Lab, Node
from deckwire.lab.network import PARENT

SECTION = "error of the round-trip times"
PORT = 4_000

_GOAL = Goal("≤", 8)
_SHARE = 0.99
_PAUSE_SECONDS = 0.001
_AT_ONCE = 1.1
"""The agent's error over that of the packet socket, where both watch the same connections."""
_FIRST_PORT = 10_000
_OURS, _PACKET_SOCKET = "deckwire", "packet socket at the tap"
_OURS_AT_ONCE, _SOCKET_AT_ONCE = "deckwire, both at once", "packet socket at the same time"

Errors = dict[tuple[str, str], list[float]]
"""The 99th percentile of each round in microseconds, by observer and side."""


def measure(lab: Lab, rounds: int, connections: int) -> list[Line]:
    """Measure `connections` a round, on an idle lab and with unpaced bulk."""
    lines: list[Line] = []
    for loaded in (False, True):
        errors: Errors = defaultdict(list)
        medians: list[float] = []
        with bulk(lab, lab.deckies[1]) if loaded else nullcontext():
            for _ in range(rounds):
                medians += _round(lab, connections, errors)
        lines += _lines(errors, medians, "with unpaced bulk" if loaded else "idle")
    return lines


def agent_errors(lab: Lab, connections: int, options: Iterable[str] = ()) -> tuple[float, float]:
    """The 99th percentile of the agent's errors in one round, of the server and client side."""
    with (
        _client_stamps(lab) as truth,
        watching(lab, "deckwire", ["--dedup-ttl", "0", *options]) as agent,
    ):
        assert agent is not None
        connect(lab, lab.deckies[0], connections)
        agent.stop()
        return _errors(truth.take(), reported(agent))


def connect(lab: Lab, decky: Node, count: int, first: int = _FIRST_PORT) -> None:
    """Make TCP connections from the client one after the other, and reset each at once.

    Each has a port of its own, from `first` on, because reports are found by the port.
    """
    with decky.inside():
        listener = socket.create_server((decky.v4, PORT))
    cpu.pin(0, cpu.CLIENTS)
    try:
        for port in range(first, first + count):
            with lab.client.inside():
                client = socket.socket()
            client.bind((lab.client.v4, port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
            client.connect((decky.v4, PORT))
            server, _ = listener.accept()
            client.close()
            server.close()
            time.sleep(_PAUSE_SECONDS)
    finally:
        cpu.pin(0, cpu.ALL)
        listener.close()


def reported(agent: Agent) -> dict[int, RoundTrips]:
    """The round trips that the agent reported, by client port. The agent must have ended."""
    return {
        int(fields["src_port"]): RoundTrips(
            float(fields["rtt_server_us"]), float(fields["rtt_client_us"])
        )
        for name, fields in agent.events()
        if name == "tcp_handshake" and fields["dst_port"] == str(PORT)
    }


def _round(lab: Lab, connections: int, errors: Errors) -> list[float]:
    """Measure the agent, it with the packet socket, and the packet socket.

    Returns the medians of the true rtt_server of the agent alone and of the packet socket alone.
    """
    decky = lab.deckies[0]
    with _client_stamps(lab) as truth:
        with watching(lab, "deckwire", ["--dedup-ttl", "0"]) as agent:
            assert agent is not None
            connect(lab, decky, connections)
            true = truth.take()
            both = _socket_sees(lab, decky, connections, _FIRST_PORT + connections)
            true_of_both = truth.take()
            agent.stop()
            ours = reported(agent)
        _note(errors, _OURS, true, ours)
        _note(errors, _OURS_AT_ONCE, true_of_both, ours)
        _note(errors, _SOCKET_AT_ONCE, true_of_both, both)
        theirs = _socket_sees(lab, decky, connections, _FIRST_PORT)
        again = truth.take()
        _note(errors, _PACKET_SOCKET, again, theirs)
    return [percentile([trip.server for trip in trips.values()], 0.5) for trips in (true, again)]


def _socket_sees(lab: Lab, decky: Node, connections: int, first: int) -> dict[int, RoundTrips]:
    """Connect as connect() does, and return what a packet socket at the tap sees of it."""
    tap = Stamps(lab.host, PARENT, PORT)
    try:
        connect(lab, decky, connections, first)
        return tap.take()
    finally:
        tap.close()


def _note(
    errors: Errors, who: str, true: Mapping[int, RoundTrips], observed: Mapping[int, RoundTrips]
) -> None:
    server, client = _errors(true, observed)
    errors[who, "server"].append(server)
    errors[who, "client"].append(client)


def _errors(
    true: Mapping[int, RoundTrips], observed: Mapping[int, RoundTrips]
) -> tuple[float, float]:
    both = true.keys() & observed.keys()
    # A round trip that is missing must not pass for a small error.
    assert len(both) >= 0.99 * len(true), (len(both), len(true))
    return (
        percentile([abs(observed[port].server - true[port].server) for port in both], _SHARE),
        percentile([abs(observed[port].client - true[port].client) for port in both], _SHARE),
    )


def _lines(errors: Errors, medians: list[float], where: str) -> Iterator[Line]:
    true = Spread.of(medians).median
    for side in ("server", "client"):
        what = f"rtt_{side}_us, p99, {where}"
        note = f"SYN to SYN-ACK takes {true:.0f} µs"
        yield _line(what, errors, side, _OURS, _PACKET_SOCKET, _GOAL, note)
        least = Spread.of(errors[_SOCKET_AT_ONCE, side]).median
        goal = Goal("≤", _AT_ONCE * least)
        yield _line(f"{what}, both at once", errors, side, _OURS_AT_ONCE, _SOCKET_AT_ONCE, goal)


def _line(
    what: str, errors: Errors, side: str, our: str, other: str, goal: Goal, note: str = ""
) -> Line:
    """The errors of one observer, compared with those of another."""
    ours, theirs = Spread.of(errors[our, side]), Spread.of(errors[other, side]).median
    against = f"{other} {theirs:.1f} µs"
    return Line(SECTION, what, ours, "µs", against, theirs, ratio(ours.median, theirs), goal, note)


@contextmanager
def _client_stamps(lab: Lab) -> Iterator[Stamps]:
    stamps = Stamps(lab.client, lab.client.interface, PORT)
    try:
        yield stamps
    finally:
        stamps.close()
