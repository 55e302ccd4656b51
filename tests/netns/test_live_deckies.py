"""The registry while the agent runs: deckies come, go, and a broken file changes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.servers import http_server

from .watching import EVERYTHING, assert_nothing_lost, fetch_plain

pytestmark = pytest.mark.root


class DeckiesFile:
    """The file that `--deckies` names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *lines: str) -> None:
        """Replaces it as a whole, as a careful writer does."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        os.replace(fresh, self.path)


def said(agent: AgentProcess, part: str) -> int:
    return sum(part in line for line in agent.messages)


def wait_said(agent: AgentProcess, part: str, times: int = 1) -> None:
    agent.wait(lambda: said(agent, part) >= times, f"the agent says {part!r}")


def hosts(agent: AgentProcess) -> list[str]:
    return [event["host"] for event in agent.find("tcp_handshake")]


def test_the_file_is_followed_while_the_agent_runs(lab: Lab, tmp_path: Path) -> None:
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

    # One more, and one with another name: both by the next look at the file.
    registry.write(f"{web.v4} shop", f"{files.v4} {files.name}", f"{mail.v4} {mail.name}")
    wait_said(agent, "deckies read again: 3")
    fetch_plain(lab.client, mail.v4)
    fetch_plain(lab.client, web.v4)
    agent.wait(lambda: len(agent.find("tcp_flow_timing")) == 3, "both are told")
    assert hosts(agent) == [web.name, mail.name, "shop"]

    # Connections of one that goes end, others' go on.
    with lab.client.connect(files.v4, 80) as leaving, lab.client.connect(mail.v4, 80) as staying:
        for connection in (leaving, staying):
            connection.sendall(b"GET / HTTP/1.0\r\n")
        agent.wait(lambda: len(agent.find("tcp_handshake")) == 5, "both are open")
        registry.write(f"{web.v4} shop", f"{mail.v4} {mail.name}")
        wait_said(agent, "deckies read again: 2")
        ended = agent.expect("tcp_flow_timing", dst_ip=files.v4)
        assert (ended["host"], ended["fields"]["close"]) == (files.name, "removed")
        assert ended["fields"]["bytes_client"] == 16
        # Its traffic passes as before, and nobody looks at it any more.
        for connection in (leaving, staying):
            connection.sendall(b"\r\n")
            while connection.recv(4_096):
                pass
    fetch_plain(lab.client, files.v4)
    assert agent.expect("tcp_flow_timing", dst_ip=mail.v4, close="fin", bytes_client=18)

    # A slip of the pen: refused as a whole, told, and everything stays.
    registry.write(f"{web.v4} shop", "198.18.1.999 nowhere")
    wait_said(agent, "198.18.1.999")
    line = next(line for line in agent.messages if "198.18.1.999" in line)
    assert line.startswith(f"deckwire: {registry.path}:2: ")
    assert line.endswith("; the 2 deckies before stay")
    before = len(agent.find("tcp_flow_timing"))
    fetch_plain(lab.client, mail.v4)
    agent.wait(lambda: len(agent.find("tcp_flow_timing")) > before, "mail is still told")

    # SIGHUP looks again although nothing changed; told once a look, not each second.
    agent.process.send_signal(signal.SIGHUP)
    wait_said(agent, "198.18.1.999", 2)
    registry.path.unlink()
    wait_said(agent, "No such file")
    registry.write(f"{web.v4} {web.name}", f"{mail.v4} {mail.name}", f"{files.v4} {files.name}")
    agent.process.send_signal(signal.SIGHUP)
    wait_said(agent, "deckies read again: 3", 2)

    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert not agent.find("tcp_flow_timing", dst_ip=files.v4, close="fin")
    assert said(agent, "198.18.1.999") == 2
    assert said(agent, "No such file") == 1
