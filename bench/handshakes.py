"""TLS handshakes by `openssl s_time`: their cost for the agent, and the share it reports."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

from bench import cpu
from bench.figures import Goal, Line, Spread, ratio
from bench.load import bulk
from bench.observers import Agent, watching
from deckwire.compiled import FORM, PURE
from deckwire.lab import Lab, Node
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import LabError
from deckwire.lab.servers import openssl_server

COST, REPORTED = "CPU of the agent per TLS handshake", "handshakes reported"

_EVERYTHING = ("--dedup-ttl", "0")
_DRAIN_SECONDS = 10.0
_LINGER_SECONDS = 10
"""How long the agent keeps a connection after its end."""


class _Run(NamedTuple):
    """One run of connections, as fast as one client makes them one after the other."""

    connections: int
    agent_seconds: float
    """CPU time of the agent."""
    others_seconds: float
    """CPU time of everything else on the machine: client, server, kernel."""


def serve_tls(lab: Lab, decky: Node) -> None:
    """Start a TLS server on the CPU of servers."""
    certificate = make_certificate(lab.directory, decky.name, key="ec")
    process = openssl_server(lab, decky, certificate)
    cpu.pin(process.pid, cpu.SERVERS)


def measure(lab: Lab, rounds: int, seconds: int, at_least: int) -> list[Line]:
    """Measure the costs in runs of `seconds`, and the shares over `at_least` handshakes."""
    decky = lab.deckies[1]
    serve_tls(lab, decky)
    return [
        _cost(lab, decky, "TLS 1.3, all events emitted, dedup off", _EVERYTHING, Goal("≤", 0.25),
              ["-tls1_3"], rounds, seconds),
        _cost(lab, decky, "TLS 1.2 with the certificate, all events emitted, dedup off",
              _EVERYTHING,
              Goal("≤", 0.25), ["-tls1_2"], rounds, seconds),
        _cost(lab, decky, "one client again and again, dedup on", (), Goal("≤", 0.035),
              ["-tls1_3"], rounds, seconds),
        *_forms(lab, decky, rounds, seconds),
        *_shares(lab, decky, at_least, with_bulk=False),
        *_shares(lab, decky, at_least, with_bulk=True),
    ]  # fmt: skip


def shake_hands(lab: Lab, decky: Node, seconds: int, options: Sequence[str] = ()) -> int:
    """Make new connections for about `seconds` and return their number."""
    (processor,) = cpu.CLIENTS
    argv = ["taskset", "-c", str(processor), "openssl", "s_time", "-connect", f"{decky.v4}:443"]
    done = lab.run(
        lab.client, [*argv, "-new", "-time", str(seconds), *options], seconds=seconds + 30
    )
    made = re.search(r"(\d+) connections in \d+ real seconds", done.stdout)
    if made is None:
        raise LabError(f"openssl s_time: {done.stdout[-200:]}{done.stderr[-200:]}")
    return int(made[1])


def _cost(
    lab: Lab,
    decky: Node,
    what: str,
    agent_options: Sequence[str],
    goal: Goal,
    client_options: Sequence[str],
    rounds: int,
    seconds: int,
) -> Line:
    runs = []
    with watching(lab, "deckwire", agent_options) as agent:
        assert agent is not None
        if rounds > 1:
            _warm_up(lab, decky, seconds, client_options)
        for _ in range(rounds):
            runs.append(_run(lab, decky, agent, seconds, client_options))
    costs = Spread.of(1_000 * run.agent_seconds / run.connections for run in runs)
    others = Spread.of(1_000 * run.others_seconds / run.connections for run in runs).median
    rate = Spread.of(run.connections / seconds for run in runs).median
    return Line(
        COST,
        what,
        costs,
        "ms",
        f"client, server and kernel {others:.2f} ms",
        others,
        ratio(costs.median, others),
        goal,
        f"{rate:.0f} a second",
    )


def _forms(lab: Lab, decky: Node, rounds: int, seconds: int) -> list[Line]:
    """Measure the compiled modules against their sources, in turn; nothing if none are compiled."""
    if FORM.why_not() is not None:
        return []
    return [
        _both_forms(lab, decky, "TLS 1.3", ["-tls1_3"], rounds, seconds),
        _both_forms(lab, decky, "TLS 1.2 with the certificate", ["-tls1_2"], rounds, seconds),
    ]


def _both_forms(
    lab: Lab, decky: Node, what: str, client_options: Sequence[str], rounds: int, seconds: int
) -> Line:
    costs: dict[tuple[str, ...], list[float]] = {(): [], (f"{PURE}=1",): []}
    for _ in range(rounds):
        for environment, found in costs.items():
            with watching(lab, "deckwire", _EVERYTHING, environment) as agent:
                assert agent is not None
                if rounds > 1:
                    _warm_up(lab, decky, seconds, client_options)
                run = _run(lab, decky, agent, seconds, client_options)
            found.append(1_000 * run.agent_seconds / run.connections)
    compiled, pure = (Spread.of(found) for found in costs.values())
    return Line(
        COST,
        f"{what}, compiled modules, all events emitted, dedup off",
        compiled,
        "ms",
        f"pure modules {pure.median:.3f} ms",
        pure.median,
        ratio(compiled.median, pure.median),
        Goal("≤", 0.72 * pure.median),
    )


def _warm_up(lab: Lab, decky: Node, seconds: int, options: Sequence[str]) -> None:
    """Make connections for ten seconds: the agent drops one so long after its end, which counts."""
    for _ in range(0, _LINGER_SECONDS, seconds):
        shake_hands(lab, decky, seconds, options)


def _run(lab: Lab, decky: Node, agent: Agent, seconds: int, options: Sequence[str]) -> _Run:
    busy, own = cpu.busy_seconds(), agent.seconds()
    connections = shake_hands(lab, decky, seconds, options)
    others = cpu.busy_seconds() - busy - (agent.seconds() - own)
    # Samples still in the rings are part of the cost. The agent sleeps 0.1 s at most.
    time.sleep(0.5)
    return _Run(connections, agent.seconds() - own, others)


def _shares(lab: Lab, decky: Node, at_least: int, *, with_bulk: bool) -> list[Line]:
    with watching(lab, "deckwire", _EVERYTHING) as agent:
        assert agent is not None
        with bulk(lab, lab.deckies[0]) if with_bulk else nullcontext():
            connections = 0
            while connections < at_least:
                connections += shake_hands(lab, decky, 1)
        agent.wait_for(lambda counts: counts["tls_session"] >= connections, _DRAIN_SECONDS)
        agent.stop()
        # A client may use a port twice: then two connections have the same conn_id.
        reported = {
            name: len(
                {(f["conn_id"], f["timestamp"]) for event, f in agent.events() if event == name}
            )
            for name in ("tls_client_hello", "tls_session")
        }
    where = "with unpaced bulk" if with_bulk else "alone"
    return [
        Line(
            REPORTED,
            f"{name} of {connections:,} handshakes, {where}",
            Spread.of([min(100 * count / connections, 100.0)]),
            "%",
            f"{connections:,} counted by the client",
            connections,
            ratio(count, connections),
            Goal("≥", 100),
        )
        for name, count in reported.items()
    ]
