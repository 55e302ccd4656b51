"""A second interface of the lab's host, which a test may change freely, and waiting for reports."""

from __future__ import annotations

import re

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from tests.support.watching import fetch_plain

SIDE, SIDE_PEER = "side0", "side1"
HOST_ADDRESS, DECKY_ADDRESS = "198.19.0.1", "198.19.0.2"


def ip(lab: Lab, node: Node, *words: str) -> str:
    done = lab.run(node, ["ip", *words])
    assert done.returncode == 0, done.stderr
    return done.stdout


def add_side_veth(lab: Lab, decky: Node, *, index: int = 2_000) -> None:
    """Add a veth from the host to a decky."""
    ip(lab, lab.host, "link", "add", SIDE, "index", str(index), "type", "veth",
       "peer", "name", SIDE_PEER, "netns", decky.netns)  # fmt: skip
    ip(lab, lab.host, "address", "add", f"{HOST_ADDRESS}/24", "dev", SIDE)
    ip(lab, decky, "address", "add", f"{DECKY_ADDRESS}/24", "dev", SIDE_PEER)
    for node, interface in ((decky, SIDE_PEER), (lab.host, SIDE)):
        ip(lab, node, "link", "set", interface, "up")
    wait_up(lab, lab.host, SIDE)


def wait_up(lab: Lab, node: Node, interface: str) -> None:
    wait_until(lambda: "state UP" in ip(lab, node, "link", "show", interface), f"{interface} is up")


def visit(
    lab: Lab, agent: AgentProcess, node: Node, address: str, seconds: float = PATIENCE_SECONDS
) -> None:
    """Make a connection and wait for its events."""
    _, port, _, _ = fetch_plain(node, address, seconds=seconds)
    agent.expect("tcp_flow_timing", seconds=seconds, src_port=port, dst_ip=address, close="fin")


def reported(agent: AgentProcess, pattern: str) -> int:
    return sum(bool(re.fullmatch(f"deckwire: {pattern}", line)) for line in agent.messages)


def wait_reported(
    agent: AgentProcess, pattern: str, times: int = 1, seconds: float = PATIENCE_SECONDS
) -> None:
    agent.wait(lambda: reported(agent, pattern) >= times, f"the agent reports {pattern!r}", seconds)


GONE = f"{SIDE} is gone; it is attached again when it comes back"
BACK = rf"ready: {SIDE} attached again \(\S+\)"
