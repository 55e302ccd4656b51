"""The agent among deckies, orchestrator, prober and attackers: whom DECNET calls an attacker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.lab.servers import http_server, serve, tls_server
from tests.decnet import consumer
from tests.support import bpf_frames as frames
from tests.support.bus_server import BusServer
from tests.support.watching import assert_nothing_lost, fetch, fetch_plain, final_sums

pytestmark = pytest.mark.root

SETTINGS = ("--outbound-source", "peer", "--own-host", "ignore")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(clients=5, host_macvlan=True) as made:
        yield made


@pytest.fixture
def bus(lab: Lab) -> Iterator[BusServer]:
    with BusServer(lab.directory / "bus.sock") as made:
        yield made


@pytest.fixture
def state(lab: Lab) -> Path:
    path = lab.directory / "decnet-state.json"
    consumer.write_state(path, [consumer.entry(decky) for decky in lab.deckies])
    return path


def agent_of(lab: Lab, bus: BusServer, state: Path, *options: str) -> AgentProcess:
    agent = AgentProcess(
        lab,
        options=[*("--decnet-state", "--deckies", str(state), "--bus", str(bus.path)), *options],
    )
    bus.wait(lambda: bus.subscribed("system.sniffer.control"), "the agent is on the bus")
    return agent


def greet(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    while connection.recv(4_096):
        pass


def talk(connection: socket.socket) -> None:
    """An SSH client's first words."""
    with connection:
        connection.sendall(b"SSH-2.0-orchestrator\r\n")
        connection.recv(100)


@pytest.mark.parametrize("lateral", ["emit", "hold", "drop"])
def test_exactly_the_attackers_and_nobody_else(
    lab: Lab, bus: BusServer, state: Path, lateral: str
) -> None:
    web, mail, files = lab.deckies
    certificate = make_certificate(lab.directory, "www.example.test", key="ec")
    for decky in lab.deckies:
        http_server(lab, decky)
        tls_server(lab, decky, certificate)
        serve(lab, decky, 22, greet)
    tls_server(lab, lab.client, certificate, 4443)
    first, second, third, scanner, c2 = lab.client.ipv4
    log = lab.directory / "decnet.log"
    outputs = ("--output", "stdout", "--output", f"file:{log},format=syslog")
    agent = agent_of(lab, bus, state, "--profile", "decnet", *outputs, "--lateral", lateral)

    # A visitor of each decky, and one that comes again.
    for source, decky in ((first, web), (second, mail), (third, files), (first, web)):
        fetch(lab.client, decky.v4, source=source)
    fetch_plain(lab.client, files.v6, source=lab.client.ipv6[1])
    # One source that scans two deckies.
    for decky in (web, mail):
        fetch_plain(lab.client, decky.v4, source=scanner)
    # A decky that calls home.
    fetch(web, c2, 4443)
    # This host: DECNET's prober, over IPv4 and IPv6.
    for address in (web.v4, web.v6, mail.v4):
        fetch(lab.host, address)
        with suppress(OSError):
            lab.host.connect(address, 81)
    # The orchestrator lets a decky talk to another, and says so afterwards.
    talk(web.connect(mail.v4, 22))
    bus.send("orchestrator.traffic.ssh", {"src_decky": web.name, "dst_ip": mail.v4, "dst_port": 22})
    # A decky that somebody took over.
    fetch_plain(files, mail.v4)
    taken_over = {"tcp_flow_timing": files.v4}
    if lateral != "drop":
        for event, source in taken_over.items():
            agent.expect(event, src_ip=source)
    agent.expect("tcp_flow_timing", src_ip=c2)

    assert agent.stop() == 0
    sums = assert_nothing_lost(agent)
    wanted = {first, second, third, scanner, c2, lab.client.ipv6[1]}
    by_deckies = {"emit": {web.v4, files.v4}, "hold": {files.v4}, "drop": set()}[lateral]
    for events in (agent.events, consumer.events(log, log.with_suffix(".json"))):
        assert consumer.attackers(events) == wanted | by_deckies
        assert consumer.traversals(events) == {scanner: {web.name, mail.name}}
        # DECNET learns nothing of the decky's own stack from its outbound connection.
        assert consumer.fingerprints(events, c2) == set()
    session = agent.expect("tls_session", src_ip=c2)
    assert (session["host"], session["fields"]["dst_ip"]) == (web.name, web.v4)
    assert session["fields"]["ja3s"]
    assert session["fields"]["decky_ja3"]
    assert sums["ignored_own_host"] > 30
    assert ("lateral_announced" in sums) == (lateral == "hold")
    assert ("lateral_dropped" in sums) == (lateral == "drop")


def test_a_forged_address_of_the_host_is_an_attacker(lab: Lab, bus: BusServer, state: Path) -> None:
    agent = agent_of(lab, bus, state, *SETTINGS)
    web = lab.deckies[0]
    syn = frames.ipv4(frames.tcp(b"", 40_000, 81, flags="S"), lab.host.v4, web.v4)
    with (
        lab.client.inside(),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw,
    ):
        raw.sendto(syn, (web.v4, 0))
    agent.expect("tcp_syn_fingerprint", src_ip=lab.host.v4, dst_ip=web.v4)
    assert agent.stop() == 0


def test_a_change_of_the_state_takes_effect(lab: Lab, bus: BusServer) -> None:
    state = lab.directory / "decnet-state.json"
    web, mail, _ = lab.deckies
    for decky in (web, mail):
        http_server(lab, decky)
    agent = agent_of(lab, bus, state)

    def wait(part: str, times: int = 1) -> None:
        agent.wait(
            lambda: sum(part in line for line in agent.messages) >= times, f"it reports {part!r}"
        )

    wait("no such file: no decky is watched until DECNET writes it")
    consumer.write_state(state, [consumer.entry(web), {"name": "no address"}])
    wait("deckies read again: 2")
    wait("config.deckies[1]: ip is missing; use a string; this decky is left out")
    fetch_plain(lab.client, web.v6)
    agent.expect("tcp_flow_timing", dst_ip=web.v6)
    state.write_text(state.read_text()[:-9])
    wait("not a whole JSON object; the 2 deckies before stay")
    fetch_plain(lab.client, web.v4)
    agent.expect("tcp_flow_timing", dst_ip=web.v4)
    consumer.write_state(state, [consumer.entry(web)], ipvlan=True)
    wait("config.ipvlan is true")
    consumer.write_state(state, [consumer.entry(mail)])
    wait("deckies read again: 2", 2)
    fetch_plain(lab.client, mail.v4)
    agent.expect("tcp_flow_timing", dst_ip=mail.v4)
    state.unlink()
    wait("deckies read again: 0")
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def test_traffic_and_health_reach_the_bus_and_a_stop_ends_the_agent(
    lab: Lab, bus: BusServer, state: Path
) -> None:
    web = lab.deckies[0]
    tls_server(lab, web, make_certificate(lab.directory, "www.example.test", key="ec"))
    agent = agent_of(lab, bus, state)
    topic = f"decky.{web.name}.traffic"
    for _ in range(2):
        fetch(lab.client, web.v4)
    bus.wait(lambda: len(bus.of(topic)) >= 3, "the traffic is published")
    bus.wait(lambda: bus.of("system.sniffer.health"), "the health is published")
    health = bus.of("system.sniffer.health")[0]["payload"]
    assert health["worker"] == "sniffer"
    assert (health["deckies"], health["lost"]) == (2 * len(lab.deckies), 0)
    agent.wait(lambda: agent.find("tcp_flow_timing"), "the flow is emitted")

    bus.send("system.sniffer.control", {"action": "dance"})
    bus.send("system.sniffer.control", {"action": "stop"})
    agent.wait(
        lambda: any("stopping: the bus asks for it" in line for line in agent.messages), "it stops"
    )
    assert agent.process.wait(PATIENCE_SECONDS) == 0
    # Repeats are suppressed, so each kind is published once.
    kinds = ["tcp_flow_timing", "tcp_syn_fingerprint", "tls_session"]
    assert sorted(message["type"] for message in bus.of(topic)) == kinds
    (session,) = [m["payload"] for m in bus.of(topic) if m["type"] == "tls_session"]
    assert all(isinstance(value, str) for value in session.values())
    emitted = agent.find("tls_session")[0]["fields"]
    assert session.keys() == emitted.keys()
    assert session["src_ip"] == emitted["src_ip"]
    sums = final_sums(agent)
    assert (sums["bus_received_taken"], sums["bus_received_ignored"]) == (1, 1)
