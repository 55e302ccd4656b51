"""Interfaces that change while the agent runs: it goes on, or attaches again by itself."""

from __future__ import annotations

import signal

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import wait_until
from deckwire.lab.network import PARENT
from deckwire.lab.servers import http_server, openssl_server
from tests.support.hooks import tcx
from tests.support.side_veth import (
    BACK,
    DECKY_ADDRESS,
    GONE,
    HOST_ADDRESS,
    SIDE,
    SIDE_PEER,
    add_side_veth,
    ip,
    reported,
    visit,
    wait_reported,
    wait_up,
)
from tests.support.watching import EVERYTHING, TLS13, assert_nothing_lost, client_context

pytestmark = pytest.mark.root


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky with a web page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


def watch_side(lab: Lab, web: Node) -> AgentProcess:
    add_side_veth(lab, web)
    return AgentProcess(lab, SIDE, [*EVERYTHING, "--decky", f"{DECKY_ADDRESS}={web.name}"])


def test_an_interface_that_changes_stays_watched(lab: Lab, web: Node) -> None:
    """Down and up, another MTU, another name: the programs stay attached."""
    agent = watch_side(lab, web)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    before = tcx(lab.host, SIDE)
    ip(lab, lab.host, "link", "set", SIDE, "mtu", "1400")
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    ip(lab, lab.host, "link", "set", SIDE, "down")
    ip(lab, lab.host, "link", "set", SIDE, "name", "other0")
    ip(lab, lab.host, "link", "set", "other0", "up")
    wait_up(lab, lab.host, "other0")
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert tcx(lab.host, "other0") == before
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert tcx(lab.host, "other0") == {"ingress": [], "egress": []}
    assert len(agent.messages) == 1


def test_a_recreated_interface_is_attached_again(lab: Lab, web: Node) -> None:
    """The interface has another index each time, as after a container runtime recreates it."""
    agent = watch_side(lab, web)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    ip(lab, lab.host, "link", "del", SIDE)
    wait_reported(agent, GONE)
    add_side_veth(lab, web, index=2_001)
    wait_reported(agent, BACK)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    # Remove and add it before the agent looks: the agent reads both messages at once.
    ip(lab, lab.host, "link", "del", SIDE)
    add_side_veth(lab, web, index=2_002)
    wait_reported(agent, BACK, 2)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert len(agent.find("tcp_handshake")) == 3
    assert tcx(lab.host, SIDE) == {"ingress": [], "egress": []}


def test_the_agent_waits_for_a_missing_interface(lab: Lab, web: Node) -> None:
    """The other interface is watched meanwhile. The message about waiting comes once."""
    options = ["-i", SIDE, "--wait-interface", *EVERYTHING]
    agent = AgentProcess(lab, PARENT, [*options, "--decky", f"{DECKY_ADDRESS}={web.name}"])
    absent = f"waiting: no interface {SIDE} in this network namespace .*"
    assert reported(agent, absent) == 1
    visit(lab, agent, lab.client, web.v4)
    add_side_veth(lab, web)
    wait_reported(agent, rf"ready: {SIDE} attached \(\S+\)")
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    # From here on it is handled like any other interface.
    ip(lab, lab.host, "link", "del", SIDE)
    wait_reported(agent, GONE)
    add_side_veth(lab, web, index=2_001)
    wait_reported(agent, BACK)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert reported(agent, absent) == 1
    assert tcx(lab.host, SIDE) == {"ingress": [], "egress": []}


def test_a_macvlan_that_appears_later_uses_its_watched_parent(lab: Lab, web: Node) -> None:
    agent = AgentProcess(lab, PARENT, ["-i", "host1", "--wait-interface", *EVERYTHING])
    before = tcx(lab.host)
    ip(lab, lab.host, "link", "add", "host1", "link", PARENT, "type", "macvlan")
    wait_reported(agent, "ready: host1 is there; its parent is watched already")
    assert tcx(lab.host) == before
    visit(lab, agent, lab.client, web.v4)
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def test_an_interface_that_cannot_be_watched_is_reported_once(lab: Lab, web: Node) -> None:
    agent = AgentProcess(lab, PARENT, ["-i", "dummy9", "--wait-interface", *EVERYTHING])
    watcher = AgentProcess(lab, SIDE_PEER, ["--wait-interface"], ready="waiting")
    add_side_veth(lab, web)
    ip(lab, web, "link", "set", SIDE_PEER, "netns", lab.host.netns)
    wait_reported(watcher, rf"ready: {SIDE_PEER} attached \(\S+\)")
    ip(lab, lab.host, "link", "set", SIDE_PEER, "down")
    ip(lab, lab.host, "link", "set", SIDE_PEER, "name", "dummy9")
    refusal = r"dummy9 is there, but: dummy9 is already watched by process .*; trying again"
    wait_reported(agent, refusal)
    visit(lab, agent, lab.client, web.v4)
    assert watcher.stop() == 0
    wait_reported(agent, r"ready: dummy9 attached \(\S+\)")
    assert reported(agent, refusal) == 1
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def test_an_interface_in_another_namespace_is_not_watched(lab: Lab, web: Node) -> None:
    """When it comes back, it is watched again."""
    agent = watch_side(lab, web)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    ip(lab, lab.host, "link", "set", SIDE, "netns", lab.client.netns)
    wait_reported(agent, GONE)
    nothing: dict[str, list[int]] = {"ingress": [], "egress": []}
    wait_until(lambda: tcx(lab.client, SIDE) == nothing, "the programs left it")
    ip(lab, lab.client, "link", "set", SIDE, "netns", lab.host.netns)
    wait_reported(agent, BACK)
    ip(lab, lab.host, "address", "add", f"{HOST_ADDRESS}/24", "dev", SIDE)
    ip(lab, lab.host, "link", "set", SIDE, "up")
    wait_up(lab, lab.host, SIDE)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def test_another_mtu_of_the_parent_keeps_the_programs(lab: Lab, web: Node) -> None:
    agent = AgentProcess(lab, options=EVERYTHING)
    visit(lab, agent, lab.client, web.v4)
    before = tcx(lab.host)
    ip(lab, lab.host, "link", "set", PARENT, "mtu", "1400")
    visit(lab, agent, lab.client, web.v4)
    visit(lab, agent, lab.deckies[1], web.v4)
    assert tcx(lab.host) == before
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert len(agent.messages) == 1


def test_a_deleted_decky_namespace_disturbs_no_other_decky(lab: Lab, web: Node) -> None:
    """Its open connection ends without FIN or RST. The agent emits its end once."""
    doomed = lab.deckies[1]
    server = openssl_server(lab, doomed, make_certificate(lab.directory, "doomed", key="ec"))
    agent = AgentProcess(lab, options=EVERYTHING)
    context = client_context(TLS13)
    with context.wrap_socket(lab.client.connect(doomed.v4, 443)) as connection:
        port = connection.getsockname()[1]
        agent.expect("tls_session", dst_ip=doomed.v4)
        # The end of a namespace deletes its interfaces first.
        ip(lab, doomed, "link", "del", doomed.interface)
        ip(lab, lab.host, "netns", "del", doomed.netns)
        server.kill()
        connection.sendall(b"is anybody there?")
        visit(lab, agent, lab.client, web.v4)
        assert agent.stop() == 0
    assert_nothing_lost(agent)
    (flow,) = agent.find("tcp_flow_timing", src_port=port)
    assert (flow["host"], flow["fields"]["close"]) == (doomed.name, "shutdown")


def test_the_agent_recovers_from_lost_link_messages(lab: Lab, web: Node) -> None:
    """The socket overflows, and the lost messages include that the interface was replaced."""
    agent = watch_side(lab, web)
    agent.process.send_signal(signal.SIGSTOP)
    noise = "".join(f"link set {SIDE} mtu {1_000 + n}\n" for n in range(1_000))
    assert lab.run(lab.host, ["ip", "-batch", "-"], input=noise).returncode == 0
    assert overruns(lab) > 0
    ip(lab, lab.host, "link", "del", SIDE)
    add_side_veth(lab, web, index=2_001)
    agent.process.send_signal(signal.SIGCONT)
    wait_reported(agent, BACK)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def overruns(lab: Lab) -> int:
    """Messages that were dropped at netlink sockets subscribed to links."""
    table = lab.run(lab.host, ["cat", "/proc/net/netlink"]).stdout.splitlines()[1:]
    rows = [line.split() for line in table]
    return sum(int(row[8]) for row in rows if row[1] == "0" and int(row[3], 16) & 1)
