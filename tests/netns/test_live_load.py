"""Thousands of handshakes, alone and with bulk traffic: nothing is lost, and bulk costs little."""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
from pathlib import Path

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import wait_until
from deckwire.lab.servers import is_listening, openssl_server
from tests.support.watching import EVERYTHING, assert_nothing_lost, counted, final_sums

pytestmark = pytest.mark.root

HANDSHAKES = 2_000
SAMPLES_A_HANDSHAKE = 12
"""Samples of the SYN, the handshake, the end, and the segments of two clear-text flights."""
RESIDENT_KB = 60_000
CAPTURE_CPU = 0.2
"""The share of one CPU that the agent may use while only bulk passes."""


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky that serves TLS."""
    certificate = make_certificate(lab.directory, "www.example.test", key="ec")
    openssl_server(lab, lab.deckies[0], certificate)
    return lab.deckies[0]


def shake_hands(lab: Lab, decky: Node, at_least: int) -> int:
    """Make connections with `openssl s_time`, one after the other. Returns their number."""
    made = 0
    while made < at_least:
        argv = ["openssl", "s_time", "-connect", f"{decky.v4}:443", "-new", "-time", "1"]
        done = lab.run(lab.client, argv)
        found = re.search(r"(\d+) connections in \d+ real seconds", done.stdout)
        assert found is not None, done.stdout + done.stderr
        made += int(found[1])
    return made


def bulk(lab: Lab, decky: Node) -> subprocess.Popen[str]:
    """Start an unpaced iperf3 transfer to a decky. It runs until the process is ended."""
    server = lab.popen(
        decky, ["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: is_listening(server.pid, 5_201), "iperf3 listens")
    return lab.popen(
        lab.client,
        # Its random data can look like TLS.
        ["iperf3", "-c", decky.v4, "-t", "60", "-J", "--repeating-payload"],
        stdout=subprocess.PIPE,
        text=True,
    )


def cpu_ticks(process: subprocess.Popen[str]) -> int:
    """User and system time of a process in clock ticks."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def received_bytes(decky: Node) -> int:
    with decky.inside():
        counters = Path("/proc/thread-self/net/dev").read_text()
    line = next(line for line in counters.splitlines() if decky.interface in line)
    return int(line.split(":")[1].split()[0])


def assert_every_handshake_reported(agent: AgentProcess, decky: Node, connections: int) -> None:
    sums = assert_nothing_lost(agent)
    counts = counted(agent, dst_ip=decky.v4, dst_port=443)
    assert counts["tcp_handshake"] == sums["handshakes"] - foreign_handshakes(agent, decky)
    # s_time opens one more connection at the end of its time and does not count it.
    assert counts["tcp_handshake"] >= connections
    for name in ("tcp_syn_fingerprint", "tls_client_hello", "tls_session", "tcp_flow_timing"):
        assert counts[name] == counts["tcp_handshake"], name


def foreign_handshakes(agent: AgentProcess, decky: Node) -> int:
    return len(agent.find("tcp_handshake")) - counted(agent, dst_ip=decky.v4)["tcp_handshake"]


def assert_small(agent: AgentProcess) -> None:
    """Assert that the agent is small and that loader and compiler are gone."""
    process = Path(f"/proc/{agent.process.pid}")
    resident = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
    assert resident is not None
    assert int(resident[1]) < RESIDENT_KB
    mapped = re.findall(r"/\S+", (process / "maps").read_text())
    assert not [path for path in mapped if re.search(r"llvm|clang|bcc", path, re.IGNORECASE)]
    assert (process / "task" / process.name / "children").read_text() == ""


@pytest.mark.parametrize(("options", "size"), [([], 1_024), (["--ring-kb", "600"], 512)])
def test_each_cpu_has_a_ring_of_the_size_that_is_set(
    lab: Lab, options: list[str], size: int
) -> None:
    agent = AgentProcess(lab, options=options)
    maps = Path(f"/proc/{agent.process.pid}/maps").read_text()
    agent.stop()
    ends = re.findall(r"^(\w+)-(\w+) .*\[perf_event\]$", maps, re.MULTILINE)
    sizes = [int(end, 16) - int(start, 16) - mmap.PAGESIZE for start, end in ends]
    assert sizes == [size * 1_024] * len(os.sched_getaffinity(0))


def test_thousands_of_handshakes_are_all_reported(lab: Lab, web: Node) -> None:
    agent = AgentProcess(lab, options=EVERYTHING)
    connections = shake_hands(lab, web, HANDSHAKES)
    assert_small(agent)
    agent.stop()
    assert_every_handshake_reported(agent, web, connections)
    sums = final_sums(agent)
    assert sums["samples_submitted"] <= SAMPLES_A_HANDSHAKE * connections


def test_bulk_traffic_costs_no_handshake(lab: Lab, web: Node) -> None:
    """Bulk adds nearly no work to the agent: all samples come from the handshakes."""
    other = lab.deckies[1]
    agent = AgentProcess(lab, options=EVERYTHING)
    transfer = bulk(lab, other)
    connections = shake_hands(lab, web, HANDSHAKES // 4)
    before_bytes, before_ticks = received_bytes(other), cpu_ticks(agent.process)
    wait_until(lambda: received_bytes(other) - before_bytes > 2_000_000_000, "2 GB passed")
    used = cpu_ticks(agent.process) - before_ticks
    transfer.terminate()
    output, _ = transfer.communicate()
    agent.stop()
    assert_every_handshake_reported(agent, web, connections)
    sums = final_sums(agent)
    assert sums["samples_submitted"] <= SAMPLES_A_HANDSHAKE * (connections + 8)
    flows = agent.find("tcp_flow_timing", dst_ip=other.v4, dst_port=5_201)
    sent = max(flow["fields"]["bytes_client"] for flow in flows)
    assert sent > 2_000_000_000
    end = json.loads(output)["end"]["sum_sent"]
    assert used / os.sysconf("SC_CLK_TCK") < CAPTURE_CPU * end["seconds"]
