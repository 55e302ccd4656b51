"""Odd openings against this kernel's own TCP: what the decky takes decides what is reported."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.lab.servers import http_server
from tests.support.live_wire import ACK, SYN, HandMade, Segment
from tests.support.watching import EVERYTHING, assert_nothing_lost

pytestmark = pytest.mark.root

NAME = "www.example.test"
FAR = 1 << 24
MSS = b"\x02\x04\x05\xb4"


def is_syn(segment: Segment) -> bool:
    return segment.flags & (SYN | ACK) == SYN


def is_synack(segment: Segment) -> bool:
    return segment.flags & (SYN | ACK) == SYN | ACK


def has_payload(segment: Segment) -> bool:
    return bool(segment.payload_len)


def client_hello() -> bytes:
    sent = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname=NAME)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return sent.read()


def connect_and_greet(decky: Node, port: int) -> None:
    """Connect from the decky to the hand-made peer, and send a ClientHello."""
    with decky.inside():
        connection = socket.socket()
    with connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.bind((decky.v4, port))
        connection.connect((HandMade.ADDRESS, HandMade.PORT))
        connection.sendall(client_hello())
        connection.recv(1)


def test_a_decky_whose_server_splits_its_syn_ack_is_the_client(lab: Lab) -> None:
    decky = lab.deckies[0]
    agent = AgentProcess(lab, options=EVERYTHING)
    with HandMade(lab, decky, 45_000) as server, ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(connect_and_greet, decky, 45_000)
        syn = server.receive(is_syn)
        server.send(flags=SYN, options=MSS)
        answer = server.receive(is_synack)
        assert answer.seq == syn.seq, "Linux accepts the SYN"
        server.accept(answer)
        hello = server.receive(has_payload)
        server.send(b"x", flags=ACK)
        connecting.result(20)
    agent.stop()
    assert_nothing_lost(agent)
    (handshake,) = agent.find("tcp_handshake")
    assert handshake["fields"]["src_ip"] == decky.v4
    assert handshake["fields"]["direction"] == "outbound"
    assert handshake["fields"]["rtt_server_us"] > 0
    assert "ja4ts" not in handshake["fields"]
    (seen,) = agent.find("tls_client_hello")
    assert (seen["fields"]["src_ip"], seen["fields"]["sni"]) == (decky.v4, NAME)
    (flow,) = agent.find("tcp_flow_timing")
    assert flow["fields"]["bytes_client"] == hello.payload_len


def answered(client: HandMade) -> None:
    """Ask for the page, and wait for it: the decky took the connection."""
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    client.receive(has_payload)


@pytest.mark.parametrize("offset", [-FAR, -1, FAR, FAR * 99])
def test_a_second_syn_that_the_decky_ignores_changes_nothing(lab: Lab, offset: int) -> None:
    decky = lab.deckies[0]
    http_server(lab, decky)
    agent = AgentProcess(lab, options=EVERYTHING)
    with HandMade(lab, decky, 80) as client:
        client.send(flags=SYN, options=MSS)
        synack = client.receive(is_synack)
        client.send(flags=SYN, offset=offset)
        client.accept(synack)
        answered(client)
    agent.stop()
    assert_nothing_lost(agent)
    (handshake,) = agent.find("tcp_handshake")
    assert handshake["fields"]["syn_retransmits"] == 0
    assert len(agent.find("tcp_flow_timing")) == 1


@pytest.mark.parametrize("flags", [SYN, SYN | ACK], ids=["SYN", "SYN-ACK"])
def test_a_syn_or_syn_ack_inside_a_connection_begins_nothing(lab: Lab, flags: int) -> None:
    decky = lab.deckies[0]
    http_server(lab, decky)
    agent = AgentProcess(lab, options=EVERYTHING)
    with HandMade(lab, decky, 80) as client:
        client.open()
        client.send(b"GET / HTTP/1.0\r\n")
        client.receive(lambda segment: not segment.payload_len)
        for offset in (-1, 15, 16, FAR):
            client.send(flags=flags, offset=offset)
        client.send(b"\r\n", offset=16)
        client.receive(has_payload)
    agent.stop()
    assert_nothing_lost(agent)
    (handshake,) = agent.find("tcp_handshake")
    assert handshake["fields"]["direction"] == "inbound"
    (flow,) = agent.find("tcp_flow_timing")
    assert (flow["fields"]["direction"], flow["fields"]["bytes_client"]) == ("inbound", 18)


def test_payload_that_the_decky_resets_before_the_handshake_is_complete_begins_nothing(
    lab: Lab,
) -> None:
    decky = lab.deckies[0]
    http_server(lab, decky)
    agent = AgentProcess(lab, options=EVERYTHING)
    with HandMade(lab, decky, 80) as client:
        client.send(flags=SYN, options=MSS)
        synack = client.receive(is_synack)
        client.send(b"no ACK", flags=0, offset=1)
        client.accept(synack, wrong=FAR)
        client.send(b"a wrong ACK")
        client.accept(synack)
        answered(client)
    agent.stop()
    assert_nothing_lost(agent)
    assert len(agent.find("tcp_handshake")) == 1
    (flow,) = agent.find("tcp_flow_timing")
    assert flow["fields"]["bytes_client"] == 18
