"""Interfaces and namespaces that the agent can watch. It leaves them as it found them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.network import HOST_INTERFACE, PARENT
from deckwire.lab.servers import http_server
from tests.support.hooks import HAS_TCX, filters, is_loaded, tcx
from tests.support.watching import (
    EVERYTHING,
    PROGRAM,
    agent_with,
    assert_nothing_lost,
    counted,
    fetch_plain,
    with_request,
)

pytestmark = pytest.mark.root

SETTINGS = (
    *("kernel/perf_event_paranoid", "kernel/perf_event_mlock_kb", "kernel/bpf_stats_enabled"),
    *("kernel/unprivileged_bpf_disabled", "net/core/bpf_jit_enable"),
)
"""Settings of the whole machine, under /proc/sys."""

needs_tcx = pytest.mark.skipif(not HAS_TCX, reason="this kernel has no TCX")
ATTACH = pytest.mark.parametrize("attach", [pytest.param("tcx", marks=needs_tcx), "clsact"])


def start(lab: Lab, attach: str) -> AgentProcess:
    return agent_with({"attach": attach}, lab)


def state(lab: Lab) -> dict[str, object]:
    """Everything that an agent could change in the lab's host namespace and on the machine."""

    def shown(*argv: str) -> list[str]:
        return lab.run(lab.host, argv).stdout.splitlines()

    return {
        "links": shown("ip", "-d", "link"),
        "addresses": shown("ip", "address"),
        "qdiscs": shown("tc", "qdisc"),
        "filters": filters(lab),
        "tcx": tcx(lab.host),
        "sysctls": [line for line in shown("sysctl", "-a", "-e") if line.startswith("net.")],
        "settings": [Path("/proc/sys", name).read_text() for name in SETTINGS],
        # Only listening sockets: the kernel also shows connections that were not accepted.
        "sockets": [
            line
            for line in shown("cat", "/proc/net/unix")
            if "deckwire" in line and line.split()[3] == "00010000"
        ],
        # Other programs may make and remove namespaces during the test.
        "namespaces": [
            line.split()[0]
            for line in shown("ip", "netns")
            if line.startswith((lab.directory.name, "deckwire"))
        ],
        "pinned": sorted(str(path) for path in Path("/sys/fs/bpf").rglob("*")),
    }


def changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky with a web page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


@pytest.mark.parametrize(
    ("attach", "number"),
    [pytest.param("tcx", signal.SIGTERM, marks=needs_tcx), ("clsact", signal.SIGINT)],
)
def test_the_interface_is_left_as_it_was_found(
    lab: Lab, web: Node, attach: str, number: signal.Signals
) -> None:
    before = state(lab)
    agent = start(lab, attach)
    during = state(lab)
    assert set(changes(before, during)) >= ({"tcx"} if attach == "tcx" else {"filters", "qdiscs"})
    programs = [program for ids in tcx(lab.host).values() for program in ids]
    fetch_plain(lab.client, web.v4)
    assert agent.stop(number) == 0
    after = state(lab)
    if attach == "clsact":
        # Another program may use the qdisc by now, so it stays, without filters.
        assert changes(before, after) == ["qdiscs"]
        assert [line for line in after["qdiscs"] if line not in before["qdiscs"]] == [  # type: ignore[attr-defined,operator]
            f"qdisc clsact ffff: dev {PARENT} parent ffff:fff1 "
        ]
    else:
        assert changes(before, after) == []
    assert not [program for program in programs if is_loaded(program)]


@ATTACH
def test_a_start_after_a_kill_replaces_what_was_left(lab: Lab, web: Node, attach: str) -> None:
    """Links end with their process. Filters outlive it until the next start replaces them."""
    before = state(lab)
    killed = start(lab, attach)
    killed.stop(signal.SIGKILL)
    left = filters(lab)
    assert tcx(lab.host) == before["tcx"]
    assert [text.count("deckwire_") for text in left.values()] == (
        [1, 1] if attach == "clsact" else [0, 0]
    )
    agent = start(lab, attach)
    assert [text.count("deckwire_") for text in filters(lab).values()] == (
        [1, 1] if attach == "clsact" else [0, 0]
    )
    fetch_plain(lab.client, web.v4)
    agent.stop()
    sums = assert_nothing_lost(agent)
    assert (sums["frames_syn"], sums["handshakes"]) == (1, 1)
    assert counted(agent, dst_ip=web.v4) == Counter(
        tcp_syn_fingerprint=1, tcp_handshake=1, http_request=1, tcp_flow_timing=1
    )
    assert set(changes(before, state(lab))) <= {"qdiscs"}


def test_a_second_start_names_the_first_agent_and_changes_nothing(lab: Lab, web: Node) -> None:
    first = AgentProcess(lab)
    before = state(lab)
    for interface in (PARENT, HOST_INTERFACE):
        status, lines = run_agent(lab, ["-i", interface, "--netns", lab.host.netns])
        # Status 1 means that a later start may succeed.
        assert status == 1
        assert lines == [
            f"deckwire: {PARENT} is already watched by process {first.process.pid} (user id 0):"
            " stop that one first"
        ]
    assert changes(before, state(lab)) == []
    fetch_plain(lab.client, web.v4)
    first.stop()
    assert counted(first)["tcp_handshake"] == 1


@ATTACH
def test_a_start_that_fails_after_attaching_leaves_nothing(lab: Lab, attach: str) -> None:
    program = with_request({"attach": attach, "table_sizes": {"MAX_DECKIES": 1}})
    options = ["-i", PARENT, "--netns", lab.host.netns]
    status, lines = run_agent(lab, options, program=program)
    assert (status, len(lines)) == (2, 1)
    assert "deckies" in lines[0]
    assert tcx(lab.host) == {"ingress": [], "egress": []}
    assert not any("deckwire_" in text for text in filters(lab).values())


def run_agent(
    lab: Lab, options: Sequence[str], node: Node | None = None, program: Sequence[str] = PROGRAM
) -> tuple[int, list[str]]:
    """Run an agent that is expected to refuse. Returns its status and messages."""
    argv = [*program, "run", *options]
    done = lab.run(node, [*argv, "--deckies", lab.deckies_file()])
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_two_agents_watch_different_interfaces(lab: Lab, web: Node) -> None:
    """An agent refuses only an interface that is already watched."""
    side = add_side_veth(lab, web)
    first = AgentProcess(lab, options=EVERYTHING)
    second = AgentProcess(lab, "side0", options=[*EVERYTHING, *side.options])
    fetch_plain(lab.client, web.v4)
    fetch_plain(lab.host, side.address)
    for agent, address in ((first, web.v4), (second, side.address)):
        agent.stop()
        assert_nothing_lost(agent)
        (handshake,) = agent.find("tcp_handshake")
        assert (handshake["host"], handshake["fields"]["dst_ip"]) == (web.name, address)


class SideVeth:
    """A veth from the host to a decky that does not use the MACVLAN."""

    address = "198.19.0.2"

    def __init__(self, name: str) -> None:
        self.options = ["--decky", f"{self.address}={name}"]


def add_side_veth(lab: Lab, decky: Node) -> SideVeth:
    def ip(node: Node, *words: str) -> None:
        done = lab.run(node, ["ip", *words])
        assert done.returncode == 0, done.stderr

    ip(lab.host, "link", "add", "side0", "index", "2000", "type", "veth",
       "peer", "name", "side1", "netns", decky.netns)  # fmt: skip
    ip(lab.host, "address", "add", "198.19.0.1/24", "dev", "side0")
    ip(decky, "address", "add", f"{SideVeth.address}/24", "dev", "side1")
    ip(decky, "link", "set", "side1", "up")
    ip(lab.host, "link", "set", "side0", "up")

    def is_up() -> bool:
        return "state UP" in lab.run(lab.host, ["ip", "link", "show", "side0"]).stdout

    wait_until(is_up, "side0 is up")
    return SideVeth(decky.name)


def test_one_agent_watches_two_interfaces(lab: Lab, web: Node) -> None:
    side = add_side_veth(lab, web)
    agent = AgentProcess(lab, options=["-i", "side0", *EVERYTHING, *side.options])
    assert PARENT in agent.messages[-1]
    assert "side0" in agent.messages[-1]
    fetch_plain(lab.client, web.v4)
    fetch_plain(lab.host, side.address)
    agent.stop()
    assert_nothing_lost(agent)
    servers = [event["fields"]["dst_ip"] for event in agent.find("tcp_handshake")]
    assert servers == [web.v4, side.address]
    assert tcx(lab.host, "side0") == {"ingress": [], "egress": []}


def test_for_a_macvlan_its_parent_is_watched(lab: Lab, web: Node) -> None:
    agent = AgentProcess(lab, HOST_INTERFACE, ["-i", PARENT, *EVERYTHING])
    assert f"deckwire: macvlan {HOST_INTERFACE} -> parent {PARENT}" in agent.messages
    assert f" on {PARENT} (" in agent.messages[-1]
    fetch_plain(lab.client, web.v4)
    fetch_plain(lab.deckies[1], web.v4)
    agent.stop()
    assert_nothing_lost(agent)
    # Both names mean the same interface, so no event is emitted twice.
    directions = [event["fields"]["direction"] for event in agent.find("tcp_handshake")]
    assert directions == ["inbound", "lateral"]


def test_no_netns_option_is_needed_in_the_namespace_itself(lab: Lab, web: Node) -> None:
    process = lab.popen(
        lab.host,
        [
            *(sys.executable, "-P", "-m", "deckwire", "run", "-i", PARENT),
            *("--decky", f"{web.v4}=shop", "--format", "json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("deckwire: ready: watching 1 decky on parent0")
    fetch_plain(lab.client, web.v4)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.count('"host": "shop", "event": "tcp_handshake"') == 1


def test_inside_a_decky_its_own_macvlan_is_watched(lab: Lab, web: Node) -> None:
    agent = AgentProcess(lab, web.interface, ["--netns", web.netns, "--dedup-ttl", "0"])
    assert any(
        f"the parent of macvlan {web.interface} is in another network namespace" in line
        for line in agent.messages
    )
    fetch_plain(lab.client, web.v4)
    assert agent.expect("tcp_handshake", dst_ip=web.v4)["fields"]["direction"] == "inbound"
    assert agent.stop() == 0
    assert tcx(web, web.interface) == {"ingress": [], "egress": []}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (lambda lab: ["-i", "nosuch", "--netns", lab.host.netns], "no interface nosuch in this"),
        (
            lambda lab: ["-i", "lo", "--wait-interface", "--netns", lab.host.netns],
            "lo is the loopback",
        ),
        (lambda lab: ["-i", PARENT, "--netns", "dwlab-none"], "no network namespace dwlab-none"),
        (lambda lab: ["-i", "lo", "--netns", lab.host.netns], "lo is the loopback"),
    ],
    ids=["interface", "waiting", "netns", "loopback"],
)
def test_an_interface_that_cannot_be_watched_is_reported_in_one_line(
    lab: Lab, options: Callable[[Lab], list[str]], line: str
) -> None:
    before = state(lab)
    status, lines = run_agent(lab, options(lab))
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"deckwire: {line}")
    assert changes(before, state(lab)) == []


def test_a_missing_namespace_has_status_1_when_waiting(lab: Lab) -> None:
    """systemd restarts a service after status 1 until the namespace exists."""
    status, lines = run_agent(lab, ["-i", PARENT, "--wait-interface", "--netns", "dwlab-none"])
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith("deckwire: no network namespace dwlab-none")
