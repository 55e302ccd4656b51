"""Deckies that give themselves away, live; a correct fleet next to them is silent."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from tests.support.watching import EVERYTHING, assert_nothing_lost

pytestmark = pytest.mark.root

FLEET = tuple(f"right-{n}" for n in range(10))
CLOCKED = ("clock-1", "clock-2", "clock-3")
WINDOWS, OPEN, TAKEN = "windows", "open", "taken"
NAMES = (*FLEET, *CLOCKED, WINDOWS, OPEN, TAKEN)
BACKDOOR = 4444


def deckies_file(lab: Lab) -> Path:
    """All of them play Linux with HTTP, but for one."""
    path = lab.directory / "played.json"
    path.write_text(
        json.dumps(
            {
                address: {
                    "name": decky.name,
                    "os": "Windows 10" if decky.name == WINDOWS else "linux",
                    "services": ["http"],
                }
                for decky in lab.deckies
                for address in (*decky.ipv4, *decky.ipv6)
            }
        )
    )
    return path


def listen(serving: ExitStack, decky: Node, port: int) -> None:
    """The kernel completes handshakes without anybody who accepts them."""
    with decky.inside():
        serving.enter_context(
            socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        )


def attack(lab: Lab, decky: Node, port: int) -> None:
    """Connections from each address of the client."""
    for source in (*lab.client.ipv4, *lab.client.ipv6):
        to = decky.v6 if ":" in source else decky.v4
        lab.client.connect(to, port, source).close()


def test_decoys_that_give_themselves_away_are_reported_and_others_are_not() -> None:
    with Lab(NAMES, clients=2) as lab, ExitStack() as serving:
        deckies = {decky.name: decky for decky in lab.deckies}
        for decky in lab.deckies:
            listen(serving, decky, 80)
            if decky.name in CLOCKED:
                with decky.inside():
                    Path("/proc/sys/net/ipv4/tcp_timestamps").write_text("2\n")
        listen(serving, deckies[OPEN], BACKDOOR)
        agent = AgentProcess(lab, options=[*EVERYTHING, "--deckies", deckies_file(lab)])
        for decky in (*lab.deckies, *lab.deckies):
            attack(lab, decky, 80)
        attack(lab, deckies[OPEN], BACKDOOR)
        taken = deckies[TAKEN]
        for victim in (deckies[FLEET[0]], deckies[FLEET[1]]):
            for to in (victim.v4, victim.v6):
                taken.connect(to, 80).close()
                with suppress(ConnectionRefusedError):
                    taken.connect(to, 81)
        with suppress(ConnectionRefusedError):
            taken.connect(lab.client.v4, 25)
        agent.expect("decky_initiated", dst_ip=lab.client.v4, dst_port=25)
        assert agent.stop() == 0
        assert_nothing_lost(agent)

    found: dict[str, set[Any]] = {}
    for event in agent.find("decky_mismatch"):
        assert event["severity"] == 4
        found.setdefault(event["host"], set()).add(event["fields"]["mismatch"])
    assert found == {
        **{name: {"shared_clock"} for name in CLOCKED},
        WINDOWS: {"system", "ttl", "ip_id"},
        OPEN: {"port_open"},
    }
    (port,) = {
        event["fields"]["dst_port"] for event in agent.find("decky_mismatch", mismatch="port_open")
    }
    assert port == BACKDOOR
    began = {
        (event["host"], *(event["fields"][name] for name in ("dst_ip", "dst_port", "direction")))
        for event in agent.find("decky_initiated")
    }
    assert began == {
        *(
            (TAKEN, to, port, "lateral")
            for name in FLEET[:2]
            for to in (deckies[name].v4, deckies[name].v6)
            for port in (80, 81)
        ),
        (TAKEN, lab.client.v4, 25, "outbound"),
    }
    for event in agent.find("decky_initiated", direction="lateral"):
        assert event["fields"]["dst_decky"] in FLEET
        assert "Linux" in event["fields"]["os"]
    # Its own MAC address shows that no other host has sent the SYN.
    assert len({event["fields"]["src_mac"] for event in agent.find("decky_initiated")}) == 1
