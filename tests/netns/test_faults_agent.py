"""Faults in the agent's environment: locked memory, wall clock, exceptions, permissions."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess, JsonEvent
from deckwire.lab.namespaces import wait_until
from deckwire.lab.network import PARENT
from deckwire.lab.servers import http_server
from tests.support.hooks import tcx
from tests.support.watching import (
    LARGE_RINGS,
    PROGRAM,
    assert_nothing_lost,
    fetch_plain,
    final_sums,
    time_ns,
)

pytestmark = pytest.mark.root

HOUR_NS = 3_600_000_000_000
SECOND_NS = 1_000_000_000

STEPPED = """
import sys, time
from pathlib import Path
offset, real = Path(sys.argv.pop(1)), time.time_ns
time.time_ns = lambda: real() + int(offset.read_text())
from deckwire.cli import main
main()
"""
"""The agent with a wall clock that a file shifts, so that the machine's clock stays unchanged."""

MISTAKEN = """
import sys
from pathlib import Path
from deckwire import cli, clock, deckies
from deckwire.runtime import agent
from deckwire.pipeline import sweeping
from deckwire.scans.tracker import Tracker
from deckwire.abi.flow_key import ends
from deckwire.tables import flows
from deckwire.runtime.losses import LossReport
from deckwire.output.sinks.fanout import Fanout
from deckwire.tables.suppression import Suppression
bad_ports = Path(sys.argv.pop(1))

def fail(*arguments, **named):
    raise ZeroDivisionError("made by the test")

def fail_after(function):
    def failing(*arguments, **named):
        function(*arguments, **named)
        fail()
    return failing

record = sweeping.flow_record
def flow_record(value):
    key = flows.OpenFlow(b"", value, midstream=False).key
    if str(ends(key, 1).client_port) in bad_ports.read_text().split():
        fail()
    return record(value)

def begin(self):
    clock.KernelClock.measure = fail
    flows.FlowTables.recount_sources = fail  # a sweep's last step
    Suppression.over = fail  # of what is due
    LossReport.due = fail
    deckies.DeckiesFile.changed = fail
    Fanout.reopen = fail
    agent.Agent._watch_interfaces = fail
    Tracker.note = fail  # of each SYN, also by compiled modules
    agent.detach = fail_after(agent.detach)
    sweeping.flow_record = flow_record
    announce(self)
announce, agent.Agent._announce = agent.Agent._announce, begin
cli.main()
"""
"""The agent with an exception in each of its steps, and at the end of connections of some ports."""


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky with a web page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


def test_a_limit_of_locked_memory_is_reported_in_one_line(lab: Lab) -> None:
    """A service without LimitMEMLOCK, CAP_IPC_LOCK and CAP_SYS_RESOURCE runs like this."""
    dropped = "-ipc_lock,-sys_resource"
    argv = [
        *("prlimit", "--memlock=0:0"),
        *("setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}"),
        *(*PROGRAM, "run", "-i", PARENT, "--netns", lab.host.netns),
        *("--decky", lab.deckies[0].v4),
    ]
    done = lab.run(None, argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "perf rings of 1024 KB cannot be mapped" in done.stderr
    assert "grant CAP_IPC_LOCK" in done.stderr
    assert tcx(lab.host) == {"ingress": [], "egress": []}


def test_a_clock_step_changes_timestamps_but_no_interval(
    lab: Lab, web: Node, tmp_path: Path
) -> None:
    """The clock steps one hour forward, then two back. Each event has the time of its clock."""
    offset = tmp_path / "offset"
    step_to(offset, 0)
    program = [sys.executable, "-P", "-c", STEPPED, str(offset)]
    # Suppression windows follow the kernel's clock, so this test turns them off.
    agent = AgentProcess(lab, program=program, options=["--dedup-ttl", "0", *LARGE_RINGS])
    with lab.client.connect(web.v4, 80) as across:
        across_port = across.getsockname()[1]
        first = agent.expect("tcp_handshake", src_port=across_port)

        step_to(offset, HOUR_NS)
        forth = visit_near(lab, web, agent, time_ns(first) + HOUR_NS)
        step_to(offset, -HOUR_NS)
        back = visit_near(lab, web, agent, time_ns(first) - HOUR_NS)
        across.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while across.recv(4_096):
            pass
    flow = agent.expect("tcp_flow_timing", src_port=across_port)
    # The duration is that of the test so far. The steps of the clock do not count.
    assert 0 < flow["fields"]["duration_s"] < 60
    assert flow["fields"]["max_iat_ms"] < 60_000
    assert abs(time_ns(flow) - time_ns(back)) < 60 * SECOND_NS
    assert len({event["fields"]["src_port"] for event in (first, forth, back)}) == 3
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def test_no_exception_ends_the_capture(lab: Lab, web: Node, tmp_path: Path) -> None:
    """Each exception is counted by its step and reported once, also during shutdown."""
    bad = tmp_path / "ports"
    bad.write_text("")
    program = [sys.executable, "-P", "-c", MISTAKEN, str(bad)]
    agent = AgentProcess(lab, program=program, options=["--dedup-ttl", "0", *LARGE_RINGS])
    steps = ("sweep", "due", "interfaces", "stats", "reload")

    def reported(where: str) -> list[str]:
        return [line for line in agent.messages if f" {where}: Zero" in line]

    agent.wait(
        lambda: all(reported(f"failures_{step}") for step in steps), "every step has failed", 20
    )
    agent.process.send_signal(signal.SIGHUP)
    agent.wait(lambda: any("deckies read again" in line for line in agent.messages), "reloaded")
    _, port, _, _ = fetch_plain(lab.client, web.v4)
    agent.expect("tcp_handshake", src_port=port)
    agent.expect("tcp_flow_timing", src_port=port, close="fin")
    with (
        lab.client.connect(web.v4, 80) as good,
        lab.client.connect(web.v4, 80) as worse,
        lab.client.connect(web.v4, 80) as better,
    ):
        ports = [one.getsockname()[1] for one in (good, worse, better)]
        for one, name in zip((good, worse, better), ports, strict=True):
            one.sendall(b"GET / HTTP/1.0\r\n")
            agent.expect("tcp_handshake", src_port=name)
        bad.write_text(str(ports[1]))
        # Detaching reports a failure, so the status is 1. But nothing stays attached.
        assert agent.stop() == 1
    assert tcx(lab.host) == {"ingress": [], "egress": []}
    ended = {
        event["fields"]["src_port"] for event in agent.find("tcp_flow_timing", close="shutdown")
    }
    assert ended == {ports[0], ports[2]}
    sums = final_sums(agent)
    assert all(sums[f"failures_{step}"] > 0 for step in steps)
    assert sums["failures_sweep"] > 0
    assert (sums["failures_end"], sums["failures_shutdown"], sums["samples_failed"]) == (1, 1, 4)
    for where in ("failures_end", "failures_shutdown", "samples_failed", "failures_sweep"):
        assert len(reported(where)) == 1
    assert not any("Traceback" in line for line in agent.messages)


def step_to(offset: Path, nanoseconds: int) -> None:
    fresh = offset.with_suffix(".new")
    fresh.write_text(str(nanoseconds))
    fresh.replace(offset)


def visit_near(lab: Lab, web: Node, agent: AgentProcess, expected_ns: int) -> JsonEvent:
    """Connect until a handshake has about this time: the agent reads the clock in intervals."""
    found: list[JsonEvent] = []

    def visited() -> bool:
        fetch_plain(lab.client, web.v4)
        near = (
            event
            for event in agent.find("tcp_handshake")
            if abs(time_ns(event) - expected_ns) < 60 * SECOND_NS
        )
        found.extend(near)
        return bool(found)

    wait_until(visited, "a handshake has the time of the new clock")
    return found[0]


def test_namespaces_that_cannot_be_searched_are_reported_in_one_line(lab: Lab, web: Node) -> None:
    """A service without CAP_SYS_PTRACE cannot open the namespaces of some containers."""
    nameless = lab.popen(
        None,
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert nameless.stdout is not None
    nameless.stdout.readline()
    ptrace = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all"]
    agent = AgentProcess(lab, program=[*ptrace, *PROGRAM])
    found = [line for line in agent.messages if "network namespaces were searched" in line]
    assert len(found) == 1
    assert re.fullmatch(
        r"deckwire: not all network namespaces were searched for macvlans "
        r"\(\d+ could not be opened, the first: /proc/\d+/ns/net: Permission denied\): "
        r"VEPA mode or an ipvlan there goes unnoticed; grant CAP_SYS_ADMIN and CAP_SYS_PTRACE .*",
        found[0],
    )
    fetch_plain(lab.client, web.v4)
    agent.expect("tcp_handshake", dst_ip=web.v4)
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    nameless.kill()
    # With the capability there is no message.
    agent = AgentProcess(lab)
    assert not [line for line in agent.messages if "network namespaces were searched" in line]
    assert agent.stop() == 0
