"""SIGHUP while the agent runs: the whole configuration is read again, and no line is lost."""

from __future__ import annotations

import json
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.servers import http_server
from tests.support.watching import (
    LARGE_RINGS,
    assert_conserved,
    assert_nothing_lost,
    fetch_plain,
    final_sums,
)

pytestmark = pytest.mark.root

SLOW = """
import sys, time
from pathlib import Path
from deckwire import deckies
gate, content, reads = Path(sys.argv.pop(1)), deckies.DeckiesFile.content, [0]

def slow(self):
    reads[0] += 1
    while reads[0] > 1 and not gate.exists():
        time.sleep(0.01)
    return content(self)

deckies.DeckiesFile.content = slow
from deckwire.cli import main
main()
"""
"""The agent whose second reading of the deckies file takes until another file appears."""


@pytest.fixture
def web(lab: Lab) -> Node:
    decky = lab.deckies[0]
    http_server(lab, decky)
    return decky


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for the name of a socket in it."""
    with tempfile.TemporaryDirectory(prefix="dw-") as made:
        yield Path(made)


class Config:
    """The configuration file of an agent."""

    def __init__(self, folder: Path, lines: str) -> None:
        self.path = folder / "deckwire.toml"
        self.path.write_text(lines)

    def start(self, lab: Lab) -> AgentProcess:
        self.agent = AgentProcess(lab, options=["-c", self.path])
        return self.agent

    def reload(self, lines: str, answer: str) -> str:
        """Write it anew and send SIGHUP; the line that has the answer."""
        self.path.write_text(lines)
        return self.hang_up(answer)

    def hang_up(self, answer: str) -> str:
        before = len(self.agent.messages)
        self.agent.process.send_signal(signal.SIGHUP)
        self.agent.wait(
            lambda: any(answer in line for line in self.agent.messages[before:]),
            f"the agent answers {answer!r}",
        )
        return next(line for line in self.agent.messages[before:] if answer in line)


def flows(agent: AgentProcess) -> int:
    return len(agent.find("tcp_flow_timing"))


def test_outputs_filters_and_dedup_change_and_no_line_is_lost(
    lab: Lab, web: Node, folder: Path
) -> None:
    log, late = folder / "log", folder / "late"
    config = Config(folder, f'output = ["stdout", "unix:{late}"]\n')
    agent = config.start(lab)
    fetch_plain(lab.client, web.v4)
    agent.wait(lambda: flows(agent) == 1, "the first connection is emitted")
    line = config.reload(
        f'output = ["stdout", "file:{log}", "unix:{late},events=tcp_handshake"]\n'
        "dedup_ttl = 0\nidle_timeout = 60\nmetrics = 'x.prom'\n"
        "[budgets]\nsyn_records_per_second = 5\n",
        "configuration read again",
    )
    assert line == (
        "deckwire: configuration read again; changed: output, dedup_ttl, idle_timeout, budgets,"
        " metrics"
    )
    wait_until((folder / "x.prom").exists, "the counters are written")
    # Nothing is suppressed any more, neither by the agent nor by the kernel.
    fetch_plain(lab.client, web.v4)
    agent.wait(lambda: flows(agent) == 2, "the second connection is emitted")
    # The lines from before the reload still wait; the filter holds for those after it.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(late))
        receiver.settimeout(PATIENCE_SECONDS)
        got = [json.loads(receiver.recv(65_536))["event"] for _ in range(5)]
        every = ["tcp_syn_fingerprint", "tcp_handshake", "http_request", "tcp_flow_timing"]
        assert got == [*every, "tcp_handshake"]
        # An output that is removed writes its lines first.
        config.reload('output = ["stdout"]\ndedup_ttl = 0\n', "changed: output")
        fetch_plain(lab.client, web.v4)
        agent.wait(lambda: flows(agent) == 3, "the third connection is emitted")
        assert not (folder / "x.prom").exists()
        assert agent.stop() == 0
    written = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert written.count("tcp_flow_timing") == 1
    sums = final_sums(agent)
    assert_conserved(sums)
    assert not agent.find("capture_loss")
    assert sums["output_unix_written"] == 5 == sums["output_unix_offered"]
    assert sums["output_file_written"] == len(written) == sums["output_file_offered"]


def test_a_wrong_configuration_changes_nothing(lab: Lab, web: Node, folder: Path) -> None:
    start = 'output = ["stdout"]\n'
    config = Config(folder, start)
    agent = config.start(lab)
    path = config.path
    for lines, answer in (
        (
            f'{start}xdp = "generic"\nlateral = "drop"\ndedup_ttl = 0\n',
            "reload refused: xdp, lateral cannot change while the agent runs; restart it",
        ),
        (
            f'{start}user = "nobody"\ndedup_ttl = 0\n',
            "reload refused: user cannot change while the agent runs; restart it",
        ),
        (f'{start}user = "dw-none"\n', f"{path}: user: this host has no user 'dw-none'"),
        ("output = [", f"{path}: not TOML"),
        ("dedup_ttl = -1\n", f"{path}: dedup_ttl: -1 is out of range"),
        (f'output = ["stdout", "file:{folder}/new", "file:{folder}/no/such"]\n', "No such file"),
    ):
        line = config.reload(lines, answer)
        assert line.endswith("; the configuration before stays")
    fetch_plain(lab.client, web.v4)
    fetch_plain(lab.client, web.v4)
    agent.wait(lambda: flows(agent) == 1, "the first connection is emitted")
    config.reload(start, "deckies read again")
    fetch_plain(lab.client, web.v6)
    agent.wait(lambda: flows(agent) == 2, "the capture goes on")
    assert agent.stop() == 0
    summaries = [event["fields"] for event in agent.find("dedup_summary")]
    # What was suppressed in the window from before the reload.
    assert ("tcp_handshake", 1) in [(one["event"], one["count"]) for one in summaries]


def test_samples_are_taken_while_the_deckies_are_read(lab: Lab, web: Node, folder: Path) -> None:
    gate = folder / "gate"
    program = (sys.executable, "-P", "-c", SLOW, str(gate))
    agent = AgentProcess(lab, options=["--dedup-ttl", "0", *LARGE_RINGS], program=program)
    agent.process.send_signal(signal.SIGHUP)
    for count in (1, 2):
        fetch_plain(lab.client, web.v4)
        agent.wait(lambda n=count: flows(agent) == n, "it is emitted")  # type: ignore[misc]
    assert not any("read again" in line for line in agent.messages)
    gate.touch()
    agent.wait(
        lambda: any("deckies read again" in line for line in agent.messages), "the reload ends"
    )
    fetch_plain(lab.client, web.v4)
    agent.wait(lambda: flows(agent) == 3, "it is emitted")
    assert agent.stop() == 0
    assert_nothing_lost(agent)
