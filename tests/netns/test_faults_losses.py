"""Full rings and tables: losses are counted by cause, and the agent recovers."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.servers import http_server, openssl_server
from tests.support.live_wire import Flow
from tests.support.watching import (
    TLS12,
    agent_with,
    assert_conserved,
    client_context,
    conn_id,
    counted,
    fetch,
    fetch_plain,
    final_sums,
)

pytestmark = pytest.mark.root

SMALLEST_RING = 131_072
FLOOD = 250
"""Connections whose samples of 4 KB each do not fit into the smallest rings of two CPUs."""


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky that serves TLS and a web page."""
    certificate = make_certificate(lab.directory, "www.example.test", names=["a" * 60] * 20)
    openssl_server(lab, lab.deckies[0], certificate)
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


def reported_losses(agent: AgentProcess, cause: str) -> int:
    return sum(event["fields"]["count"] for event in agent.find("capture_loss", cause=cause))


def visit(lab: Lab, web: Node, times: int) -> list[Flow]:
    context = client_context(TLS12)
    return [fetch(lab.client, web.v4, context=context) for _ in range(times)]


def test_a_stopped_agent_counts_its_losses_and_goes_on(lab: Lab, web: Node) -> None:
    """The agent is stopped under load with small rings, twice. The second time it ends then."""
    agent = agent_with({"ring_bytes": SMALLEST_RING}, lab)
    agent.process.send_signal(signal.SIGSTOP)
    missed = visit(lab, web, FLOOD)
    agent.process.send_signal(signal.SIGCONT)
    agent.expect("capture_loss", cause="samples_lost")
    # Every end is emitted, although the sample of the end may be lost.
    agent.wait(lambda: len(agent.find("tcp_flow_timing")) == FLOOD, "all ends are emitted")

    after = visit(lab, web, 10)
    agent.expect("tcp_flow_timing", conn_id=conn_id(after[-1]))
    for flow in after:
        of_connection = counted(agent, conn_id=conn_id(flow))
        assert set(of_connection.values()) == {1}
        assert len(of_connection) == 6

    agent.process.send_signal(signal.SIGSTOP)
    missed += visit(lab, web, FLOOD)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.stop(signal.SIGCONT) == 0
    sums = final_sums(agent)
    assert_conserved(sums)
    assert sums["samples_lost"] > 0
    assert sums["handshakes"] == len(missed) + len(after)
    assert reported_losses(agent, "samples_lost") == sums["samples_lost"]
    # No event is emitted twice, and the end of each connection once.
    for flow in (*missed, *after):
        of_connection = counted(agent, conn_id=conn_id(flow))
        assert max(of_connection.values()) == 1
        assert of_connection["tcp_flow_timing"] == 1


def test_a_full_table_of_connections_evicts_the_greedy_source_only(lab: Lab, web: Node) -> None:
    honest, greedy = lab.client.ipv4[:2]
    agent = agent_with({"table_sizes": {"MAX_FLOWS": 16}}, lab)
    with ExitStack() as held:
        patient = [hold(held, lab, web, honest) for _ in range(4)]
        for _ in range(24):
            hold(held, lab, web, greedy)
        agent.expect("tcp_flow_timing", close="evicted")
        agent.expect("capture_loss", cause="flow_insert_failed")
        for connection in patient:
            finish(connection)
        agent.wait(
            lambda: len(agent.find("tcp_flow_timing", src_ip=honest, close="fin")) == 4,
            "the honest client's connections are emitted",
        )
    agent.stop()
    sums = final_sums(agent)
    assert_conserved(sums)
    assert sums["flow_insert_failed"] == reported_losses(agent, "flow_insert_failed") > 0
    evicted = agent.find("tcp_flow_timing", close="evicted")
    assert len(evicted) == sums["flows_evicted"]
    assert {event["fields"]["src_ip"] for event in evicted} == {greedy}
    # Connections that found no room in the table are mid-stream, and end once too.
    flows = [event["fields"] for event in agent.find("tcp_flow_timing")]
    ends = [(flow["src_ip"], flow["src_port"]) for flow in flows]
    assert len(ends) == len(set(ends))


def hold(held: ExitStack, lab: Lab, web: Node, source: str) -> socket.socket:
    """Open a connection and send some data."""
    connection = held.enter_context(lab.client.connect(web.v4, 80, source))
    connection.sendall(b"GET / HTTP/1.0\r\n")
    return connection


def finish(connection: socket.socket) -> None:
    connection.sendall(b"\r\n")
    while connection.recv(4_096):
        pass
    connection.close()


def test_evicted_half_open_connections_are_counted(lab: Lab, web: Node) -> None:
    """Half-open entries evict each other, never a connection."""
    agent = agent_with({"table_sizes": {"MAX_HALF_OPEN": 128}}, lab)
    with lab.client.connect(web.v4, 80) as open_before, ExitStack() as pending:
        before_port = open_before.getsockname()[1]
        open_before.sendall(b"GET / HTTP/1.0\r\n")
        for number in range(1_000):
            with lab.client.inside():
                client = pending.enter_context(socket.socket())
            client.setblocking(False)
            # The decky refuses it, so it stays half-open in the table.
            client.connect_ex((lab.deckies[1].v4, 10_000 + number))
        finish(open_before)
        _, port, _, _ = fetch_plain(lab.client, web.v4)
    agent.stop()
    sums = final_sums(agent)
    assert_conserved(sums)
    assert sums["half_open_inserts"] == 1_002
    assert sums["half_open_evicted"] > 800
    assert agent.find("capture_loss") == []
    (flow,) = agent.find("tcp_flow_timing", src_port=before_port)
    assert (flow["fields"]["close"], flow["fields"]["bytes_client"]) == ("fin", 18)
    assert len(agent.find("tcp_flow_timing", src_port=port, close="fin")) == 1
