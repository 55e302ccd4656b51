"""What a host on the same network segment can forge, with real frames in a real MACVLAN."""

from __future__ import annotations

import socket

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.network import CLIENT_INTERFACE
from deckwire.lab.servers import http_server
from tests.support.bpf_frames import Talk
from tests.support.live_wire import ACK, FIN, HandMade
from tests.support.watching import EVERYTHING, assert_nothing_lost

pytestmark = pytest.mark.root

PORT = 80
DATA = b"forged\r\n"


def inject(node: Node, frame: bytes) -> None:
    """Send a frame from the network of the client as it is."""
    with node.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((CLIENT_INTERFACE, 0))
        raw.send(frame)


def use(connection: socket.socket) -> None:
    """Request the page and close the connection."""
    with connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while connection.recv(65_536):
            pass


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_forged_frame_of_a_decky_is_an_anomaly(lab: Lab, family: str) -> None:
    web = lab.deckies[0]
    address = getattr(web, family)
    http_server(lab, web)
    agent = AgentProcess(lab, options=EVERYTHING)
    connection = lab.client.connect(address, PORT)
    source, mine = connection.getsockname()[:2]
    agent.expect("tcp_handshake", src_port=mine)
    talk = Talk(source, address, client_port=mine, server_port=PORT)
    inject(lab.client, talk.s("PA", 1, 1, DATA))
    inject(lab.client, talk.s("R", 1, 1))
    event = agent.expect("tcp_anomaly", technique="forged_source", src_port=mine)
    assert event["severity"] == 4
    assert event["fields"]["sender"] == "server"
    use(connection)
    agent.expect("tcp_flow_timing", src_port=mine, close="fin")
    assert agent.stop() == 0


def test_between_two_deckies_nothing_shows_who_sent_a_frame(lab: Lab) -> None:
    """The limit that docs/security.md names: a real lateral frame passes ingress as well."""
    web, mail = lab.deckies[:2]
    http_server(lab, web)
    agent = AgentProcess(lab, options=EVERYTHING)
    connection = mail.connect(web.v4, PORT)
    mine = connection.getsockname()[1]
    agent.expect("tcp_handshake", src_port=mine)
    talk = Talk(mail.v4, web.v4, client_port=mine, server_port=PORT)
    inject(lab.client, talk.s("PA", 1, 1, DATA))
    use(connection)
    flow = agent.expect("tcp_flow_timing", src_port=mine)
    assert flow["fields"]["direction"] == "lateral"
    assert not agent.find("tcp_anomaly", technique="forged_source")
    assert agent.stop() == 0


def test_checksums_left_to_the_network_card_are_spared(lab: Lab) -> None:
    """Also where the SYN's happens to be right, as one in 65,536 is."""
    decky = lab.deckies[0]
    http_server(lab, decky)
    agent = AgentProcess(lab, options=EVERYTHING)
    request = b"GET / HTTP/1.0\r\n\r\n"
    with HandMade(lab, decky, PORT, offloads=True) as client:
        client.open()
        client.send(request)
        client.receive(lambda segment: bool(segment.payload_len))
        client.send(offset=len(request), flags=ACK | FIN)
        # The RST at the end of the block is right only then.
        client.receive(lambda segment: segment.ack == client.first_seq + len(request) + 2)
    flow = agent.expect("tcp_flow_timing", src_ip=HandMade.ADDRESS)
    assert flow["fields"]["bytes_client"] == len(request)
    assert agent.stop() == 0
    sums = assert_nothing_lost(agent)
    assert not sums.get("frames_refused")
