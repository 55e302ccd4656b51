"""Changes of the deckies file while the agent runs, and files with errors."""

from __future__ import annotations

import os
import signal
import socket
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.lab.servers import http_server
from deckwire.limits import DECKIES
from tests.support.watching import EVERYTHING, agent_with, assert_nothing_lost, fetch_plain

pytestmark = pytest.mark.root


class DeckiesFile:
    """The file that `--deckies` names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *lines: str) -> None:
        """Replace the file atomically."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        os.replace(fresh, self.path)


def reported(agent: AgentProcess, part: str) -> int:
    return sum(part in line for line in agent.messages)


def wait_reported(agent: AgentProcess, part: str, times: int = 1) -> None:
    agent.wait(lambda: reported(agent, part) >= times, f"the agent reports {part!r}")


def hosts(agent: AgentProcess) -> list[str]:
    return [event["host"] for event in agent.find("tcp_handshake")]


def test_changes_of_the_file_take_effect_while_the_agent_runs(lab: Lab, tmp_path: Path) -> None:
    web, mail, files = lab.deckies
    for decky in lab.deckies:
        http_server(lab, decky)
    registry = DeckiesFile(tmp_path / "deckies")
    registry.write(f"{web.v4} {web.name}", f"{files.v4} {files.name}")
    agent = AgentProcess(lab, options=["--deckies", str(registry.path), *EVERYTHING])

    fetch_plain(lab.client, mail.v4)
    fetch_plain(lab.client, web.v4)
    agent.expect("tcp_flow_timing", dst_ip=web.v4)
    assert hosts(agent) == [web.name]

    # Add one decky and rename another: both take effect when the file is read again.
    registry.write(f"{web.v4} shop", f"{files.v4} {files.name}", f"{mail.v4} {mail.name}")
    wait_reported(agent, "deckies read again: 3")
    fetch_plain(lab.client, mail.v4)
    fetch_plain(lab.client, web.v4)
    agent.wait(lambda: len(agent.find("tcp_flow_timing")) == 3, "both are emitted")
    assert hosts(agent) == [web.name, mail.name, "shop"]

    # The connections of a removed decky end. Other connections go on.
    with lab.client.connect(files.v4, 80) as leaving, lab.client.connect(mail.v4, 80) as staying:
        for connection in (leaving, staying):
            connection.sendall(b"GET / HTTP/1.0\r\n")
        agent.wait(lambda: len(agent.find("tcp_handshake")) == 5, "both are open")
        registry.write(f"{web.v4} shop", f"{mail.v4} {mail.name}")
        wait_reported(agent, "deckies read again: 2")
        ended = agent.expect("tcp_flow_timing", dst_ip=files.v4)
        assert (ended["host"], ended["fields"]["close"]) == (files.name, "removed")
        assert ended["fields"]["bytes_client"] == 16
        # Its traffic still passes, but the agent no longer watches it.
        for connection in (leaving, staying):
            connection.sendall(b"\r\n")
            while connection.recv(4_096):
                pass
    fetch_plain(lab.client, files.v4)
    assert agent.expect("tcp_flow_timing", dst_ip=mail.v4, close="fin", bytes_client=18)

    # A wrong address: the file is refused as a whole and reported, and the deckies stay.
    registry.write(f"{web.v4} shop", "198.18.1.999 nowhere")
    wait_reported(agent, "198.18.1.999")
    line = next(line for line in agent.messages if "198.18.1.999" in line)
    assert line.startswith(f"deckwire: {registry.path}:2: ")
    assert line.endswith("; the 2 deckies before stay")
    before = len(agent.find("tcp_flow_timing"))
    fetch_plain(lab.client, mail.v4)
    agent.wait(
        lambda: len(agent.find("tcp_flow_timing")) > before, "events of mail are still emitted"
    )

    # SIGHUP reads an unchanged file again. The error is reported once per read, not every second.
    agent.process.send_signal(signal.SIGHUP)
    wait_reported(agent, "198.18.1.999", 2)
    registry.path.unlink()
    wait_reported(agent, "No such file")
    registry.write(f"{web.v4} {web.name}", f"{mail.v4} {mail.name}", f"{files.v4} {files.name}")
    agent.process.send_signal(signal.SIGHUP)
    wait_reported(agent, "deckies read again: 3", 2)

    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert not agent.find("tcp_flow_timing", dst_ip=files.v4, close="fin")
    assert reported(agent, "198.18.1.999") == 2
    assert reported(agent, "No such file") == 1


def spare(first: int, count: int) -> list[str]:
    """Lines of deckies without any traffic."""
    addresses = (IPv4Address(0x0A00_0000 + n) for n in range(first, first + count))
    return [f"{address} spare-{int(address)}" for address in addresses]


def test_a_full_registry_can_change(lab: Lab, tmp_path: Path) -> None:
    """More than half of 65,536 deckies are replaced. Those that stay are watched all the time."""
    web, mail, files = lab.deckies
    for decky in lab.deckies:
        http_server(lab, decky)
    registry = DeckiesFile(tmp_path / "deckies")
    registry.write(f"{web.v4} {web.name}", f"{mail.v4} {mail.name}", *spare(0, DECKIES - 2))
    agent = AgentProcess(lab, options=["--deckies", str(registry.path), *EVERYTHING])
    assert reported(agent, f"watching {DECKIES} deckies") == 1
    with lab.client.connect(web.v4, 80) as across:
        across.sendall(b"GET / HTTP/1.0\r\n")
        fetch_plain(lab.client, mail.v4)
        agent.expect("tcp_flow_timing", dst_ip=mail.v4)
        registry.write(
            f"{web.v4} {web.name}", f"{files.v4} {files.name}", *spare(40_000, DECKIES - 2)
        )
        agent.wait(lambda: reported(agent, f"read again: {DECKIES}"), "the file is read again")
        across.sendall(b"\r\n")
        while across.recv(4_096):
            pass
    fetch_plain(lab.client, mail.v4)
    fetch_plain(lab.client, files.v4)
    agent.expect("tcp_flow_timing", dst_ip=web.v4, close="fin", bytes_client=18)
    agent.expect("tcp_flow_timing", dst_ip=files.v4)
    # Replace nearly all of them.
    registry.write(f"{mail.v4} {mail.name}", *spare(200_000, DECKIES - 1))
    agent.wait(
        lambda: reported(agent, f"read again: {DECKIES}") == 2, "the file is read once more", 30
    )
    fetch_plain(lab.client, mail.v4)
    agent.wait(lambda: len(hosts(agent)) == 4, "the last one is emitted")
    assert agent.stop() == 0
    sums = assert_nothing_lost(agent)
    assert "reloads_failed" not in sums
    assert sorted(hosts(agent)) == sorted([web.name, mail.name, files.name, mail.name])


def test_deckies_that_the_kernel_refuses_change_nothing(lab: Lab, tmp_path: Path) -> None:
    web, mail, _ = lab.deckies
    for decky in (web, mail):
        http_server(lab, decky)
    registry = DeckiesFile(tmp_path / "deckies")
    registry.write(f"{web.v4} {web.name}", *spare(0, 7))
    agent = agent_with(
        {"table_sizes": {"MAX_DECKIES": 8}},
        lab,
        options=["--deckies", str(registry.path), *EVERYTHING],
    )
    registry.write(f"{mail.v4} {mail.name}", f"{mail.v6} {mail.name}", *spare(100, 8))
    refusal = (
        f"deckwire: {registry.path}: the kernel refused the deckies: map deckies4 is full; "
        "the 8 deckies before stay: send SIGHUP to try again"
    )
    wait_reported(agent, refusal)
    fetch_plain(lab.client, mail.v4)
    fetch_plain(lab.client, web.v4)
    agent.expect("tcp_flow_timing", dst_ip=web.v4)
    assert hosts(agent) == [web.name]
    agent.process.send_signal(signal.SIGHUP)
    wait_reported(agent, refusal.replace("8 deckies before stay", "configuration before stays"))
    registry.write(f"{mail.v4} {mail.name}", f"{mail.v6} {mail.name}", *spare(100, 7))
    wait_reported(agent, "deckies read again: 9")
    fetch_plain(lab.client, web.v4)
    fetch_plain(lab.client, mail.v4)
    fetch_plain(lab.client, mail.v6)
    agent.wait(lambda: len(hosts(agent)) == 3, "both addresses have events")
    assert agent.stop() == 0
    assert hosts(agent) == [web.name, mail.name, mail.name]
    assert assert_nothing_lost(agent)["reloads_failed"] == 2


@pytest.mark.parametrize("zone", ["", "%eth0"], ids=["without a zone", "with a zone"])
def test_a_link_local_address_of_a_decky_is_watched(lab: Lab, zone: str) -> None:
    web = lab.deckies[0]
    http_server(lab, web)
    shown = lab.run(web, ["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"])
    (address,) = (word.split("/")[0] for word in shown.stdout.split() if word.startswith("fe80:"))
    agent = AgentProcess(lab, options=["--decky", f"{address}{zone}=web-link", *EVERYTHING])
    with lab.client.inside():
        scoped = (address, 80, 0, socket.if_nametoindex(lab.client.interface))
        connection = socket.socket(socket.AF_INET6)
    with connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(scoped)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while connection.recv(4_096):
            pass
    agent.expect("tcp_flow_timing", dst_ip=address, close="fin")
    agent.stop()
    (seen,) = agent.find("tcp_handshake", dst_ip=address)
    assert seen["host"] == "web-link"
    assert seen["fields"]["direction"] == "inbound"
