"""Deckies that give themselves away, live; a correct fleet next to them is silent."""

from __future__ import annotations

import json
import shutil
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.network import CLIENT_INTERFACE
from tests.support.watching import LARGE_RINGS, assert_nothing_lost

pytestmark = pytest.mark.root

FLEET = tuple(f"right-{n}" for n in range(10))
CLOCKED = ("clock-1", "clock-2", "clock-3")
WINDOWS, OPEN, TAKEN, SHUT = "windows", "open", "taken", "shut"
NAMES = (*FLEET, *CLOCKED, WINDOWS, OPEN, TAKEN, SHUT)
BACKDOOR, SCANNED = 4444, 4445
"""Ports of no service: one is connected to, the other only scanned."""
NMAP = ("nmap", "-n", "-Pn", "-sS", "-e", CLIENT_INTERFACE)
PING = ("nmap", "-n", "-sn", "-PE", "--disable-arp-ping")


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


def ask(node: Node, to: str, port: int) -> None:
    """A datagram, as to a name server."""
    with node.inside():
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.sendto(b"?", (to, port))


def refuse(lab: Lab, decky: Node) -> None:
    """The decky refuses a SYN to its service."""
    with suppress(ConnectionRefusedError):
        lab.client.connect(decky.v4, 80).close()


@pytest.mark.skipif(shutil.which("nmap") is None, reason="not installed: nmap")
def test_decoys_that_give_themselves_away_are_reported_and_others_are_not() -> None:
    with Lab(NAMES, clients=2) as lab, ExitStack() as serving:
        deckies = {decky.name: decky for decky in lab.deckies}
        for decky in lab.deckies:
            if decky.name != SHUT:
                listen(serving, decky, 80)
            if decky.name in CLOCKED:
                with decky.inside():
                    Path("/proc/sys/net/ipv4/tcp_timestamps").write_text("2\n")
        listen(serving, deckies[OPEN], BACKDOOR)
        listen(serving, deckies[OPEN], SCANNED)
        agent = AgentProcess(
            lab, options=["--dedup-ttl", "0", *LARGE_RINGS, "--deckies", deckies_file(lab)]
        )
        serving_deckies = [decky for decky in lab.deckies if decky.name != SHUT]
        for decky in (*serving_deckies, *serving_deckies):
            attack(lab, decky, 80)
        attack(lab, deckies[OPEN], BACKDOOR)
        every = [decky.v4 for decky in lab.deckies]
        done = lab.run(lab.client, [*NMAP, "-p", f"80,81,{SCANNED}", *every], seconds=120)
        assert done.returncode == 0, done.stderr
        taken = deckies[TAKEN]
        for victim in (deckies[FLEET[0]], deckies[FLEET[1]]):
            for to in (victim.v4, victim.v6):
                taken.connect(to, 80).close()
                with suppress(ConnectionRefusedError):
                    taken.connect(to, 81)
        with suppress(ConnectionRefusedError):
            taken.connect(lab.client.v4, 25)
        for to in (lab.client.v4, lab.client.v6, deckies[FLEET[2]].v4):
            ask(taken, to, 53)
        # A decky that answers a datagram begins nothing.
        for name in (*FLEET, TAKEN):
            ask(lab.client, deckies[name].v4, 161)
        lab.run(taken, [*PING, lab.client.v4], seconds=120)
        lab.run(lab.client, [*PING, deckies[FLEET[3]].v4], seconds=120)
        agent.expect("decky_initiated", dst_ip=lab.client.v4, dst_port=25)
        agent.expect("decky_initiated", transport="icmp")

        def is_closed() -> bool:
            refuse(lab, deckies[SHUT])
            return bool(agent.find("decky_mismatch", mismatch="port_closed"))

        agent.wait(is_closed, "the closed port is reported", 180)
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
        SHUT: {"port_closed"},
    }
    ports = {
        event["fields"]["dst_port"] for event in agent.find("decky_mismatch", mismatch="port_open")
    }
    assert ports == {BACKDOOR, SCANNED}
    began = {
        (event["host"], *map(event["fields"].get, ("dst_ip", "dst_port", "direction")))
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
        (TAKEN, lab.client.v4, 53, "outbound"),
        (TAKEN, lab.client.v6, 53, "outbound"),
        (TAKEN, deckies[FLEET[2]].v4, 53, "lateral"),
        (TAKEN, lab.client.v4, None, "outbound"),
    }
    for event in agent.find("decky_initiated", direction="lateral", transport="tcp"):
        assert event["fields"]["dst_decky"] in FLEET
        assert "Linux" in event["fields"]["os"]
    # Its own MAC address shows that no other host has sent the SYN.
    assert len({event["fields"]["src_mac"] for event in agent.find("decky_initiated")}) == 1
