"""What happens to interfaces under a running agent: it goes on, or takes up again by itself."""

from __future__ import annotations

import re
import signal

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import wait_until
from deckwire.lab.network import PARENT
from deckwire.lab.servers import http_server, openssl_server
from tests.support.hooks import tcx
from tests.support.watching import (
    EVERYTHING,
    TLS13,
    assert_nothing_lost,
    client_context,
    fetch_plain,
)

pytestmark = pytest.mark.root

SIDE, SIDE_PEER = "side0", "side1"
HOST_ADDRESS, DECKY_ADDRESS = "198.19.0.1", "198.19.0.2"


def ip(lab: Lab, node: Node, *words: str) -> str:
    done = lab.run(node, ["ip", *words])
    assert done.returncode == 0, done.stderr
    return done.stdout


def lead_aside(lab: Lab, decky: Node, *, index: int = 2_000) -> None:
    """A veth from the host to a decky that the test may do with as it likes."""
    ip(lab, lab.host, "link", "add", SIDE, "index", str(index), "type", "veth",
       "peer", "name", SIDE_PEER, "netns", decky.netns)  # fmt: skip
    ip(lab, lab.host, "address", "add", f"{HOST_ADDRESS}/24", "dev", SIDE)
    ip(lab, decky, "address", "add", f"{DECKY_ADDRESS}/24", "dev", SIDE_PEER)
    for node, interface in ((decky, SIDE_PEER), (lab.host, SIDE)):
        ip(lab, node, "link", "set", interface, "up")
    wait_up(lab, lab.host, SIDE)


def wait_up(lab: Lab, node: Node, interface: str) -> None:
    wait_until(lambda: "state UP" in ip(lab, node, "link", "show", interface), f"{interface} is up")


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky with a page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


def watch_side(lab: Lab, web: Node) -> AgentProcess:
    lead_aside(lab, web)
    return AgentProcess(lab, SIDE, [*EVERYTHING, "--decky", f"{DECKY_ADDRESS}={web.name}"])


def visit(lab: Lab, agent: AgentProcess, node: Node, address: str) -> None:
    """A connection that the agent must tell."""
    _, port, _, _ = fetch_plain(node, address)
    agent.expect("tcp_flow_timing", src_port=port, dst_ip=address, close="fin")


def said(agent: AgentProcess, pattern: str) -> int:
    return sum(bool(re.fullmatch(f"deckwire: {pattern}", line)) for line in agent.messages)


def wait_said(agent: AgentProcess, pattern: str, times: int = 1) -> None:
    agent.wait(lambda: said(agent, pattern) >= times, f"the agent says {pattern!r}", 30)


GONE = f"{SIDE} is gone; it is attached again when it comes back"
BACK = rf"ready: {SIDE} attached again \(\S+\)"


def test_an_interface_that_stays_is_watched_on(lab: Lab, web: Node) -> None:
    """Down and up, with another MTU, under another name: nothing is attached anew."""
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


def test_a_recreated_interface_is_taken_up_again(lab: Lab, web: Node) -> None:
    """With another index each time, as a container runtime removes and makes it."""
    agent = watch_side(lab, web)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    ip(lab, lab.host, "link", "del", SIDE)
    wait_said(agent, GONE)
    lead_aside(lab, web, index=2_001)
    wait_said(agent, BACK)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    # And gone and back before the agent looks: it hears of both at once.
    ip(lab, lab.host, "link", "del", SIDE)
    lead_aside(lab, web, index=2_002)
    wait_said(agent, BACK, 2)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert len(agent.find("tcp_handshake")) == 3
    assert tcx(lab.host, SIDE) == {"ingress": [], "egress": []}


def test_one_that_is_not_there_yet_is_waited_for(lab: Lab, web: Node) -> None:
    """The other one is watched meanwhile. It is said once."""
    options = ["-i", SIDE, "--wait-interface", *EVERYTHING]
    agent = AgentProcess(lab, PARENT, [*options, "--decky", f"{DECKY_ADDRESS}={web.name}"])
    absent = f"waiting: no interface {SIDE} in this network namespace .*"
    assert said(agent, absent) == 1
    visit(lab, agent, lab.client, web.v4)
    lead_aside(lab, web)
    wait_said(agent, rf"ready: {SIDE} attached \(\S+\)")
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    # From here on it is one like any other.
    ip(lab, lab.host, "link", "del", SIDE)
    wait_said(agent, GONE)
    lead_aside(lab, web, index=2_001)
    wait_said(agent, BACK)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert said(agent, absent) == 1
    assert tcx(lab.host, SIDE) == {"ingress": [], "egress": []}


def test_a_macvlan_that_comes_later_stands_for_a_parent_that_is_watched(
    lab: Lab, web: Node
) -> None:
    agent = AgentProcess(lab, PARENT, ["-i", "host1", "--wait-interface", *EVERYTHING])
    before = tcx(lab.host)
    ip(lab, lab.host, "link", "add", "host1", "link", PARENT, "type", "macvlan")
    wait_said(agent, "ready: host1 is there; its parent is watched already")
    assert tcx(lab.host) == before
    visit(lab, agent, lab.client, web.v4)
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def test_one_that_comes_but_cannot_be_watched_is_said_once(lab: Lab, web: Node) -> None:
    agent = AgentProcess(lab, PARENT, ["-i", "dummy9", "--wait-interface", *EVERYTHING])
    watcher = AgentProcess(lab, SIDE_PEER, ["--wait-interface"], ready="waiting")
    lead_aside(lab, web)
    ip(lab, web, "link", "set", SIDE_PEER, "netns", lab.host.netns)
    wait_said(watcher, rf"ready: {SIDE_PEER} attached \(\S+\)")
    ip(lab, lab.host, "link", "set", SIDE_PEER, "down")
    ip(lab, lab.host, "link", "set", SIDE_PEER, "name", "dummy9")
    refusal = r"dummy9 is there, but: dummy9 is already watched by process .*; trying again"
    wait_said(agent, refusal)
    visit(lab, agent, lab.client, web.v4)
    assert watcher.stop() == 0
    wait_said(agent, r"ready: dummy9 attached \(\S+\)")
    assert said(agent, refusal) == 1
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def test_an_interface_that_moves_to_another_namespace_is_gone(lab: Lab, web: Node) -> None:
    """It is another's there. Back again it is watched again."""
    agent = watch_side(lab, web)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    ip(lab, lab.host, "link", "set", SIDE, "netns", lab.client.netns)
    wait_said(agent, GONE)
    nothing: dict[str, list[int]] = {"ingress": [], "egress": []}
    wait_until(lambda: tcx(lab.client, SIDE) == nothing, "the programs left it")
    ip(lab, lab.client, "link", "set", SIDE, "netns", lab.host.netns)
    wait_said(agent, BACK)
    ip(lab, lab.host, "address", "add", f"{HOST_ADDRESS}/24", "dev", SIDE)
    ip(lab, lab.host, "link", "set", SIDE, "up")
    wait_up(lab, lab.host, SIDE)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def test_another_mtu_of_the_parent_changes_nothing(lab: Lab, web: Node) -> None:
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


def test_a_decky_whose_namespace_goes_takes_only_its_own_along(lab: Lab, web: Node) -> None:
    """In mid-connection, without a farewell: the connection is told all the same, once."""
    doomed = lab.deckies[1]
    server = openssl_server(lab, doomed, make_certificate(lab.directory, "doomed", key="ec"))
    agent = AgentProcess(lab, options=EVERYTHING)
    context = client_context(TLS13)
    with context.wrap_socket(lab.client.connect(doomed.v4, 443)) as connection:
        port = connection.getsockname()[1]
        agent.expect("tls_session", dst_ip=doomed.v4)
        # What the end of a namespace does to its interfaces first.
        ip(lab, doomed, "link", "del", doomed.interface)
        ip(lab, lab.host, "netns", "del", doomed.netns)
        server.kill()
        connection.sendall(b"is anybody there?")
        visit(lab, agent, lab.client, web.v4)
        assert agent.stop() == 0
    assert_nothing_lost(agent)
    (flow,) = agent.find("tcp_flow_timing", src_port=port)
    assert (flow["host"], flow["fields"]["close"]) == (doomed.name, "shutdown")


def test_lost_messages_about_interfaces_are_made_good(lab: Lab, web: Node) -> None:
    """More of them than the socket holds, and among those lost that the interface was replaced."""
    agent = watch_side(lab, web)
    agent.process.send_signal(signal.SIGSTOP)
    noise = "".join(f"link set {SIDE} mtu {1_000 + n}\n" for n in range(1_000))
    assert lab.run(lab.host, ["ip", "-batch", "-"], input=noise).returncode == 0
    assert overruns(lab) > 0
    ip(lab, lab.host, "link", "del", SIDE)
    lead_aside(lab, web, index=2_001)
    agent.process.send_signal(signal.SIGCONT)
    wait_said(agent, BACK)
    visit(lab, agent, lab.host, DECKY_ADDRESS)
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def overruns(lab: Lab) -> int:
    """Messages that sockets subscribed to interfaces had no room for."""
    table = lab.run(lab.host, ["cat", "/proc/net/netlink"]).stdout.splitlines()[1:]
    rows = [line.split() for line in table]
    return sum(int(row[8]) for row in rows if row[1] == "0" and int(row[3], 16) & 1)
