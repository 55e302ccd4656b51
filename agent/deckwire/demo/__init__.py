"""`deckwire demo`: a lab, real attackers, the real agent, and its events explained."""

from __future__ import annotations

import sys

from rich.console import Console

from deckwire.demo.attacks import Attack, attacks, start_servers
from deckwire.demo.display import heading, show_event
from deckwire.demo.summary import Summary
from deckwire.errors import UsageError
from deckwire.lab import Lab, LabError, remove_stale
from deckwire.lab.agent import AgentProcess
from deckwire.lab.network import HOST_INTERFACE

CLIENTS = 8
"""Each attacker has an address of its own, because events of one address are suppressed."""
PLAIN_WIDTH = 1_000
"""Columns if the output is no terminal, so that no line is broken into two."""


def demo() -> int:
    """Runs the demo: 0 if it showed all that it should, 1 if not, 130 after ^C.

    Raises:
        UsageError: the lab cannot be made, or the agent does not run (without root, for instance).
        SystemExit: SIGTERM or SIGHUP came; the lab is removed.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    try:
        return _demo(console)
    except LabError as error:
        raise UsageError(str(error)) from error
    except KeyboardInterrupt:
        print("deckwire: interrupted, the lab is removed", file=sys.stderr)
        return 130


def _demo(console: Console) -> int:
    for stem in remove_stale():
        console.print(f"Removed {stem}, which a killed demo had left.")
    heading(console, "A lab of its own, in network namespaces: a client, a host, three deckies")
    with Lab(clients=CLIENTS, host_macvlan=True) as lab:
        for decky in lab.deckies:
            console.print(f"  {decky.name:10}{decky.v4:14}{decky.v6}")
        start_servers(lab)
        heading(console, f"The agent: deckwire run -i {HOST_INTERFACE} --deckies deckies.txt")
        agent = AgentProcess(lab, HOST_INTERFACE, ["--stats-interval", "0"])
        for line in agent.messages:
            console.print(f"  {line}", markup=False)
        shown = 0
        summary = Summary(lab)
        for attack in attacks(lab):
            heading(console, attack.title, f"from {attack.source}")
            _carry_out(console, attack, agent, summary)
            for event in agent.events[shown:]:
                show_event(console, event)
                shown += 1
        status = agent.stop()
        heading(console, "The agent ends (SIGTERM)")
        for event in agent.events[shown:]:
            show_event(console, event)
    summary.show(console, agent.events, status)
    return 1 if status or summary.missing(agent.events) else 0


def _carry_out(console: Console, attack: Attack, agent: AgentProcess, summary: Summary) -> None:
    """Carries out one attack, and waits until the agent has emitted the expected events."""
    if attack.missing_program():
        console.print(f"  skipped: {attack.program} is not installed", style="yellow")
        return
    summary.names[attack.source] = attack.program
    attack.act()
    try:
        agent.wait(lambda: attack.seen(agent), attack.title)
    except LabError:
        if agent.process.poll() is not None:
            raise
        # The summary names what is missing.
        console.print("  the agent did not emit all expected events", style="yellow")
