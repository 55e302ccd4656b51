"""A long ClientHello: in one super-packet or several segments, in any order, after other data."""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess, JsonEvent
from deckwire.lab.certificates import make_certificate
from deckwire.lab.servers import openssl_server, serve
from tests.support.live_wire import ACK, HandMade, Segment, Tap
from tests.support.watching import EVERYTHING, assert_nothing_lost

pytestmark = pytest.mark.root

pytest.importorskip("curl_cffi", reason="speaks TLS as browsers do")

BROWSE = """
import sys
from curl_cffi import CurlOpt, requests
url, resolve = sys.argv[1:]
requests.get(url, impersonate="chrome131", verify=False, timeout=120, proxies={},
             curl_options={CurlOpt.RESOLVE: [resolve]})
"""
NAME = "www.example.test"
MSS = 1_448
"""MSS of IPv4 with timestamps for an MTU of 1,500."""
BULK = 300_000
"""Bytes after which long segments are not searched."""


def browse(lab: Lab, decky: Node, port: int = 443) -> int:
    """Send Chrome's hello from the client to the decky. Returns the exit status."""
    # The hello contains the name. The connection goes to the address in the lab.
    at = f"{NAME}:{port}:{decky.v4}"
    argv = [sys.executable, "-c", BROWSE, f"https://{NAME}:{port}/", at]
    return lab.run(lab.client, argv).returncode


def assert_whole(hello: JsonEvent) -> None:
    fields = hello["fields"]
    assert fields["sni"] == NAME
    assert fields["alpn"] == ["h2", "http/1.1"]
    assert fields["tls_version"] == "TLS 1.3"
    assert fields["pq"] == "X25519MLKEM768"
    assert fields["ech"] is True
    assert fields["ja4"].startswith("t13d1516h2_8daaf6152771_")


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads", "plain"])
def test_a_post_quantum_hello_is_read_whole(offloads: bool) -> None:
    with Lab(offloads=offloads) as lab:
        decky = lab.deckies[0]
        openssl_server(lab, decky, make_certificate(lab.directory, NAME, key="ec"))
        agent = AgentProcess(lab, options=EVERYTHING)
        with Tap(lab) as tap:
            assert browse(lab, decky) == 0
        agent.stop()
    assert_nothing_lost(agent)
    (segments,) = tap.flows.values()
    first, second = [s for s in segments if s.payload_len and s.dst == decky.v4][:2]
    (hello,) = agent.find("tls_client_hello")
    if offloads:
        assert first.payload_len > 1_700
        assert hello["fields"]["quality"] == "complete"
    else:
        assert first.payload_len == MSS
        assert first.payload_len + second.payload_len > 1_700
        assert hello["fields"]["quality"] == "reassembled"
    assert_whole(hello)
    assert len(agent.find("tls_session", alpn=["h2", "http/1.1"])) == 1


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads", "plain"])
def test_a_long_hello_after_bulk_data_is_found(offloads: bool) -> None:
    """Of a super-packet, no byte of the payload is linear. It is too long to be searched."""
    with Lab(offloads=offloads) as lab:
        decky = lab.deckies[0]
        made = make_certificate(lab.directory, NAME, key="ec")
        accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        accepting.load_cert_chain(made.certificate, made.key)

        def talk(connection: socket.socket) -> None:
            left = BULK
            while left:
                left -= len(connection.recv(min(left, 65_536)))
            connection.sendall(b"go ahead")
            accepting.wrap_socket(connection, server_side=True).close()

        serve(lab, decky, 4_433, talk)
        agent = AgentProcess(lab, options=EVERYTHING)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([f"protocol-{n:04}" for n in range(200)])
        with Tap(lab) as tap, lab.client.connect(decky.v4, 4_433) as connection:
            connection.sendall(bytes(BULK))
            assert connection.recv(8) == b"go ahead"
            context.wrap_socket(connection, server_hostname=NAME).close()
        agent.stop()
    assert_nothing_lost(agent)
    (segments,) = tap.flows.values()
    first = next(s for s in segments if s.start[:2] == b"\x16\3" and s.dst == decky.v4)
    assert (first.payload_len > 2_800) == offloads
    (hello,) = agent.find("tls_client_hello")
    assert hello["fields"]["sni"] == NAME
    assert len(agent.find("tls_session", sni=NAME)) == 1


FAST_OPEN = """
import pathlib, socket, ssl, sys
address, port = sys.argv[1], int(sys.argv[2])
pathlib.Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("5")
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(received, sent, server_hostname="www.example.test")
connection = None
while True:
    try:
        tls.do_handshake()
        done = True
    except ssl.SSLWantReadError:
        done = False
    flight = sent.read()
    if connection is None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family)
        connection.sendto(flight, socket.MSG_FASTOPEN, (address, port))
    elif flight:
        connection.sendall(flight)
    if done:
        break
    received.write(connection.recv(65536))
"""


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_hello_in_the_syn(lab: Lab, family: str, taken: bool) -> None:
    """The client sends it with TCP Fast Open; the decky's TCP takes it, or wants it again."""
    decky = lab.deckies[0]
    with decky.inside():
        # 0x600: every listener takes data of a SYN, and wants no cookie.
        Path("/proc/sys/net/ipv4/tcp_fastopen").write_text(str(0x602 if taken else 0))
    openssl_server(lab, decky, make_certificate(lab.directory, NAME, key="ec"), port=8443)
    agent = AgentProcess(lab, options=EVERYTHING)
    with Tap(lab) as tap:
        argv = [sys.executable, "-c", FAST_OPEN, getattr(decky, family), "8443"]
        assert lab.run(lab.client, argv).returncode == 0
    agent.stop()
    assert_nothing_lost(agent)
    (segments,) = tap.flows.values()
    syn, synack, *_ = segments
    assert syn.payload_len > 200
    assert (synack.ack - syn.seq - 1) % 2**32 == (syn.payload_len if taken else 0)
    (hello,) = agent.find("tls_client_hello", sni=NAME)
    assert hello["fields"]["quality"] == "complete"
    (session,) = agent.find("tls_session", sni=NAME)
    assert session["fields"]["ja4"] == hello["fields"]["ja4"]
    (flow,) = agent.find("tcp_flow_timing")
    sent = sum(s.payload_len for s in segments if s.src == syn.src)
    assert flow["fields"]["bytes_client"] == sent


@pytest.fixture(scope="module")
def chrome_hello() -> bytes:
    """The first flight of the same browser, received by a plain socket."""
    received: list[bytes] = []
    with Lab() as lab:
        decky = lab.deckies[0]

        def talk(connection: socket.socket) -> None:
            flight = b""
            while len(flight) < 5 or len(flight) < 5 + int.from_bytes(flight[3:5]):
                flight += connection.recv(4_096)
            received.append(flight)

        serve(lab, decky, 443, talk)
        browse(lab, decky)
    assert len(received[0]) > 1_700
    return received[0]


@pytest.mark.parametrize("order", ["in order", "reversed", "reversed and retransmitted"])
def test_segments_in_either_order_make_one_hello(lab: Lab, chrome_hello: bytes, order: str) -> None:
    decky = lab.deckies[0]
    openssl_server(lab, decky, make_certificate(lab.directory, NAME, key="ec"))
    agent = AgentProcess(lab, options=EVERYTHING)
    pieces = [(0, chrome_hello[:1_000]), (1_000, chrome_hello[1_000:])]
    if order != "in order":
        pieces.reverse()
    if order == "reversed and retransmitted":
        pieces += pieces

    def is_handshake(segment: Segment) -> bool:
        return bool(segment.payload_len) and segment.start[:1] == b"\x16"

    with HandMade(lab, decky, 443) as client:
        client.open()
        for offset, piece in pieces:
            client.send(piece, offset=offset)
        # The decky's TCP has reassembled the pieces: it replies with its ServerHello.
        server_hello = client.receive(is_handshake)
        assert server_hello.ack - 1 - client.first_seq == len(chrome_hello)
        assert server_hello.flags & ACK
    agent.stop()
    sums = assert_nothing_lost(agent)
    assert sums["handshakes"] == 1
    (hello,) = agent.find("tls_client_hello")
    assert_whole(hello)
    assert hello["fields"]["quality"] == "reassembled"
    (session,) = agent.find("tls_session")
    assert session["fields"]["ja4"] == hello["fields"]["ja4"]
    (flow,) = agent.find("tcp_flow_timing")
    assert flow["fields"]["close"] == "rst"
    # A segment that fills a gap is out of order, not a retransmission.
    assert flow["fields"]["retransmits"] == (2 if order == "reversed and retransmitted" else 0)
    assert flow["fields"]["bytes_client"] == sum(len(piece) for _, piece in pieces)
