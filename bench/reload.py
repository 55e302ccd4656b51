"""How long the rings are not read during a reload of all deckies, and what stays in memory."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from bench.figures import Goal, Line, Spread, ratio
from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.limits import DECKIES

SECTION = "reload"
_GOAL_S = 0.3
_GOAL_MEMORY = 1.1
_MEMORY_RELOADS = 10
_SETTLE_S = 2.0

_MEASURED = """
import sys, time
from deckwire.kernel import rings
from deckwire.runtime import agent

state = {"ended": time.monotonic(), "slept": 0.0, "longest": 0.0}
wait, drain, reported = rings.Rings.wait, rings.Rings.drain, agent.Agent._report_reload

def waiting(self, seconds=rings.WAIT_SECONDS):
    started = time.monotonic()
    result = wait(self, seconds)
    # What it takes beyond its time, it waited for the interpreter.
    state["slept"] += min(time.monotonic() - started, seconds)
    return result

def draining(self):
    gap = time.monotonic() - state["ended"] - state["slept"]
    state["longest"] = max(state["longest"], gap)
    found = drain(self)
    state["ended"], state["slept"] = time.monotonic(), 0.0
    return found

def report(self, plan):
    # The pass in which the reload ends counts too.
    self._drain_contained()
    print(f"standstill {state['longest']:.6f}", file=sys.stderr, flush=True)
    state["longest"] = 0.0
    reported(self, plan)

def begin(self):
    state["ended"], state["longest"] = time.monotonic(), 0.0
    loop(self)

loop, agent.Agent._loop = agent.Agent._loop, begin
rings.Rings.wait, rings.Rings.drain, agent.Agent._report_reload = waiting, draining, report
from deckwire.cli import main
main()
"""
"""The agent, which says after each reload how long the rings were not read at most."""


def measure(lab: Lab, rounds: int) -> list[Line]:
    """Reload a full registry: the same file, and one in which every decky is another one."""
    path, new = lab.directory / "many-deckies", lab.directory / "more-deckies"
    contents = [_content(first) for first in (0, DECKIES)]
    path.write_text(contents[0])
    agent = AgentProcess(
        lab,
        options=["--deckies", path, "--output", "file:/dev/null"],
        program=(sys.executable, "-P", "-c", _MEASURED),
    )
    same, other = [], []
    before = _resident(agent)
    memory = before
    for number in range(max(rounds, _MEMORY_RELOADS)):
        same.append(_reload(agent, lambda: agent.process.send_signal(signal.SIGHUP)))
        new.write_text(contents[(number + 1) % 2])
        other.append(_reload(agent, lambda: new.replace(path)))
        if number + 1 == _MEMORY_RELOADS:
            # What the last reload needed is free again with the next pass of the loop.
            time.sleep(_SETTLE_S)
            memory = _resident(agent)
    agent.stop()
    lines = [
        Line(
            SECTION,
            f"rings not read while {DECKIES:,} deckies are reloaded, {what}",
            Spread.of(times),
            "s",
            "goal of the reload",
            _GOAL_S,
            ratio(Spread.of(times).median, _GOAL_S),
            Goal("≤", _GOAL_S),
        )
        for what, times in (("unchanged", same), ("all others", other))
    ]
    grown = ratio(memory, before)
    lines.append(
        Line(
            SECTION,
            f"resident memory after {2 * _MEMORY_RELOADS} reloads",
            Spread(memory / 1e6, memory / 1e6, memory / 1e6),
            "MB",
            f"before them {before / 1e6:.1f} MB",
            before / 1e6,
            grown,
            Goal("≤", _GOAL_MEMORY * before / 1e6),
        )
    )
    return lines


def _content(first: int) -> str:
    addresses = (IPv4Address(0x0A00_0000 + first + number) for number in range(DECKIES))
    return "".join(f"{address} decky-{int(address)}\n" for address in addresses)


def _reload(agent: AgentProcess, ask: Callable[[], object]) -> float:
    """Ask for a reload and wait for its end; its longest standstill in seconds."""
    before = len(agent.messages)
    ask()
    agent.wait(
        lambda: any("deckies read again" in line for line in agent.messages[before:]),
        "the reload ends",
        120,
    )
    found = re.findall(r"^standstill ([\d.]+)$", "\n".join(agent.messages[before:]), re.MULTILINE)
    return max(map(float, found))


def _resident(agent: AgentProcess) -> int:
    """Resident memory in bytes."""
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
