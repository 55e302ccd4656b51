"""Honest traffic of many kinds is never refused, makes no anomaly, and is all reported.

Real clients and servers do what hosts do: they close in every way, probe and keep alive, use a port
again, lose packets, send urgent data and data in their SYN. All of them run at the same time.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from struct import pack

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import PATIENCE_SECONDS, LabError, wait_until
from deckwire.lab.servers import serve, tls_server
from tests.support.raw_peer import MSS_OPTION, Peer, Wire
from tests.support.watching import (
    EVERYTHING,
    TLS12,
    TLS13,
    assert_nothing_lost,
    client_context,
    counted,
    fetch,
)

pytestmark = pytest.mark.root

ECHO, SINK, SOURCE, LAZY, RUDE, CLOSER = 7, 9, 19, 10, 11, 13
BULK = bytes(1 << 20)
FAST_OPEN = 0x607
"""Of net.ipv4.tcp_fastopen: clients and all servers use it, without cookies."""
CURL_REQUESTS = 30

Ends = tuple[str, int]


@dataclass
class Traffic:
    """The lab with its servers, and what its clients did."""

    lab: Lab
    lossy: bool
    connections: int = 0
    sessions: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _released: dict[Ends, threading.Event] = field(
        default_factory=lambda: defaultdict(threading.Event)
    )

    def made(self, connections: int = 1, sessions: int = 0) -> None:
        with self._lock:
            self.connections += connections
            self.sessions += sessions

    def connect(self, node: Node, address: str, port: int) -> socket.socket:
        connection = node.connect(address, port)
        self.made()
        return connection

    def fetch(self, node: Node, address: str, version: ssl.TLSVersion) -> None:
        fetch(node, address, context=client_context(version))
        self.made(1, 1)

    def release(self, connection: socket.socket) -> None:
        """Let the lazy server read from this connection."""
        self.released(connection.getsockname()).set()

    def released(self, ends: tuple[str, int, int, int] | Ends) -> threading.Event:
        with self._lock:
            return self._released[ends[0].removeprefix("::ffff:"), ends[1]]

    def serve(self, node: Node) -> None:
        certificate = make_certificate(self.lab.directory, f"{node.name}.example.test", key="ec")
        tls_server(self.lab, node, certificate)

        def lazy(connection: socket.socket) -> None:
            self.released(connection.getpeername()).wait(PATIENCE_SECONDS)
            sink(connection)

        servers: dict[int, Callable[[socket.socket], None]] = {
            ECHO: echo,
            SINK: sink,
            SOURCE: source,
            LAZY: lazy,
            RUDE: rude,
            CLOSER: closer,
        }
        for port, talk in servers.items():
            serve(self.lab, node, port, talk)


# --- servers ---


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65_536):
        connection.sendall(data)


def sink(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass
    connection.sendall(b"done")


def source(connection: socket.socket) -> None:
    connection.recv(10)
    connection.sendall(BULK)


def rude(connection: socket.socket) -> None:
    """Answers with a RST."""
    connection.recv(10)
    reset(connection)


def closer(connection: socket.socket) -> None:
    """Closes before its client does."""
    connection.recv(10)
    connection.sendall(b"bye")


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
    connection.close()


def read_all(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


def network_counter(node: Node, name: str) -> int:
    """A counter of the TCP of the node's namespace (/proc/net/netstat)."""
    with node.inside(), open("/proc/thread-self/net/netstat") as lines:
        names, values = (next(lines).split() for _ in range(2))
    return int(values[names.index(name)])


def challenges(lab: Lab) -> int:
    """RSTs and SYNs inside of connections that the nodes refused (RFC 5961)."""
    names = "TCPChallengeACK", "TCPACKSkippedChallenge"
    return sum(network_counter(node, name) for node in lab.nodes for name in names)


# --- what clients do ---


def sessions(traffic: Traffic, node: Node, address: str) -> None:
    for version in (TLS12, TLS13):
        traffic.fetch(node, address, version)


def abrupt_sessions(traffic: Traffic, node: Node, address: str) -> None:
    """Ends with unread data, so by a RST, before and after the request."""
    for version, request, read in itertools.product((TLS12, TLS13), (0, 1), (0, 1)):
        with traffic.connect(node, address, 443) as plain, contextlib.suppress(OSError):
            tls = client_context(version).wrap_socket(plain, server_hostname="www.example.test")
            traffic.made(0, 1)
            if request:
                tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if read:
                    tls.recv(10)
            tls.close()


def downloads(traffic: Traffic, node: Node, address: str) -> None:
    """A whole one, one that is closed early, one that is reset, one after a half close."""
    for number in range(4):
        with traffic.connect(node, address, SOURCE) as connection:
            connection.sendall(b"go")
            if number == 0:
                read_all(connection)
            elif number == 1:
                connection.recv(50_000)
            elif number == 2:
                connection.recv(1_000)
                reset(connection)
            else:
                connection.shutdown(socket.SHUT_WR)
                read_all(connection)


def uploads(traffic: Traffic, node: Node, address: str) -> None:
    """With a large window; the second one is reset."""
    for ends_well in (True, False):
        with traffic.connect(node, address, SINK) as connection:
            connection.sendall(BULK)
            if ends_well:
                connection.shutdown(socket.SHUT_WR)
                read_all(connection)
            else:
                reset(connection)


def closed_window(traffic: Traffic, node: Node, address: str) -> None:
    """The server does not read until its window is closed and has been probed."""
    before = network_counter(node, "TCPWinProbe")
    with traffic.connect(node, address, LAZY) as connection:
        connection.setblocking(False)

        def is_probed() -> bool:
            # Until acknowledgements come, the buffer may hold less than the window.
            with contextlib.suppress(BlockingIOError):
                while True:
                    connection.send(BULK)
            return network_counter(node, "TCPWinProbe") > before

        # Where its segments are lost, the window may never close.
        if traffic.lossy:
            is_probed()
        else:
            wait_until(is_probed, "a probe")
        traffic.release(connection)
        connection.settimeout(PATIENCE_SECONDS)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)


def keep_alive(traffic: Traffic, node: Node, address: str) -> None:
    with traffic.connect(node, address, ECHO) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        before = network_counter(node, "TCPKeepAlive")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.sendall(b"before")
        connection.recv(10)
        wait_until(lambda: network_counter(node, "TCPKeepAlive") > before, "a probe")
        connection.sendall(b"after")
        connection.recv(10)


def resets(traffic: Traffic, node: Node, address: str) -> None:
    """The server resets while data are on their way."""
    for _ in range(3):
        with traffic.connect(node, address, RUDE) as connection, contextlib.suppress(OSError):
            connection.sendall(b"abc")
            connection.sendall(b"def" * 1_000)
            connection.recv(10)


def late_data(traffic: Traffic, node: Node, address: str) -> None:
    """The client goes on sending after the server has closed."""
    with traffic.connect(node, address, CLOSER) as connection, contextlib.suppress(OSError):
        connection.sendall(b"abc")
        read_all(connection)
        for _ in range(3):
            connection.sendall(b"def" * 1_000)


def urgent(traffic: Traffic, node: Node, address: str) -> None:
    with traffic.connect(node, address, ECHO) as connection:
        connection.sendall(b"abc")
        connection.send(b"!", socket.MSG_OOB)
        connection.sendall(b"more")
        connection.recv(100)


def dialogue(traffic: Traffic, node: Node, address: str) -> None:
    with traffic.connect(node, address, ECHO) as connection:
        for size in range(1, 20):
            connection.sendall(b"abc" * size)
            connection.recv(100)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)


def port_again(traffic: Traffic, node: Node, address: str) -> None:
    """The same port for several connections, which end in different ways."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    port = 0
    for how in ("reset", "fin", "reset", "reset", "half close", "fin"):
        with node.inside():
            connection = socket.socket(family)
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind(("", port))
            port = connection.getsockname()[1]
            connection.settimeout(PATIENCE_SECONDS)
            try:
                connection.connect((address, ECHO))
            except OSError:
                # Linux does not use a port again while it waits after its own FIN.
                port = 0
                continue
            traffic.made()
            connection.sendall(b"hello")
            connection.recv(10)
            if how == "reset":
                reset(connection)
            elif how == "half close":
                connection.shutdown(socket.SHUT_WR)
                read_all(connection)


def fast_open(traffic: Traffic, node: Node, address: str) -> None:
    """A ClientHello in the SYN."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(TLS13).wrap_bio(incoming, outgoing, server_hostname="www.example.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with node.inside():
        connection = socket.socket(family)
    with connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.sendto(outgoing.read(), socket.MSG_FASTOPEN, (address, 443))
        traffic.made(1, 1)
        while True:
            incoming.write(connection.recv(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
        tls.write(b"GET / HTTP/1.0\r\n\r\n")
        connection.sendall(outgoing.read())
        read_all(connection)


def refused(_: Traffic, node: Node, address: str) -> None:
    with contextlib.suppress(ConnectionRefusedError):
        node.connect(address, 3_333)


CLIENTS = (
    *(sessions, abrupt_sessions, downloads, uploads, closed_window, keep_alive, resets),
    *(late_data, urgent, dialogue, port_again, fast_open, refused),
)


@pytest.fixture(params=["offloads", "plain", "lossy"])
def traffic(request: pytest.FixtureRequest) -> Iterator[Traffic]:
    """Servers on the client and two deckies; `lossy`: links that drop what comes too fast."""
    with Lab(host_macvlan=True, offloads=request.param != "plain") as lab:
        if request.param == "offloads":
            lab.set_offloads(True)
        made = Traffic(lab, request.param == "lossy")
        for node in lab.nodes:
            with node.inside(), open("/proc/sys/net/ipv4/tcp_fastopen", "w") as setting:
                setting.write(str(FAST_OPEN))
        for node in (lab.client, *lab.deckies[:2]):
            made.serve(node)
        if request.param == "lossy":
            for node in (lab.client, *lab.deckies):
                rule = ["root", "tbf", "rate", "200mbit", "burst", "32kb", "limit", "40kb"]
                argv = ["tc", "qdisc", "add", "dev", node.interface, *rule]
                done = lab.run(node, argv)
                assert done.returncode == 0, done.stderr
        yield made


def assert_honest(agent: AgentProcess, lab: Lab) -> dict[str, int]:
    """Assert that nothing was refused, but for RSTs that Linux refused as well.

    An end may abort where its receiver lacks bytes: they were lost, or a busy machine delivers the
    RST first. Linux refuses that RST, and takes the one that answers its challenge. Nothing shows
    that the first one is not forged.
    """
    sums = assert_nothing_lost(agent)
    shown = [event["fields"] for event in agent.find("tcp_anomaly")]
    resets = [fields for fields in shown if fields["technique"] == "refused_rst"]
    assert [fields for fields in shown if fields not in resets] == []
    assert len(resets) <= challenges(lab), resets
    refused = {name: count for name, count in sums.items() if name.startswith("refused_") and count}
    assert refused.keys() <= {"refused_rst"}, refused
    return sums


def test_honest_traffic_is_never_refused(traffic: Traffic) -> None:
    lab = traffic.lab
    web, mail, files = lab.deckies
    routes = [
        (here, address)
        for here, there in (
            (lab.client, web),
            (lab.host, mail),
            (files, lab.client),
            (files, mail),
        )
        for address in (there.v4, there.v6)
    ]
    agent = AgentProcess(lab, options=EVERYTHING)
    work = list(itertools.product(CLIENTS, routes))
    with ThreadPoolExecutor(len(work)) as pool:
        waiting = [pool.submit(client, traffic, *route) for client, route in work]
        parallel(traffic, web)
        for result in waiting:
            result.result()
    # If one does not come, the counters say why.
    with contextlib.suppress(LabError):
        agent.wait(lambda: len(agent.find("tls_session")) >= traffic.sessions, "all sessions")
    assert agent.stop() == 0
    sums = assert_honest(agent, lab)
    events = counted(agent)
    assert events["tcp_handshake"] == traffic.connections
    # On a busy machine, what a decky sent before a reset came may pass 10 ms after it.
    assert events["tcp_flow_timing"] == traffic.connections + sums["flows_resumed"]
    assert events["tls_client_hello"] == events["tls_session"] == traffic.sessions


def parallel(traffic: Traffic, decky: Node) -> None:
    """Many requests at once by curl, and sessions of openssl that are resumed."""
    lab = traffic.lab
    for address in (decky.v4, f"[{decky.v6}]"):
        curl = ["curl", "-gsk", "--http1.0", "--parallel", "--parallel-immediate"]
        urls = ["-o", "/dev/null", f"https://{address}/"] * CURL_REQUESTS
        done = lab.run(lab.client, [*curl, *urls])
        assert done.returncode == 0, done.stderr
        traffic.made(CURL_REQUESTS, CURL_REQUESTS)
        for version in ("-tls1_2", "-tls1_3"):
            argv = ["openssl", "s_client", "-connect", f"{address}:443", version]
            lab.run(lab.client, argv, input="GET / HTTP/1.0\n\n")
            traffic.made(1, 1)


@pytest.mark.parametrize("version", [4, 6])
def test_both_ends_may_close_at_the_same_time(lab: Lab, version: int) -> None:
    """And an end that has closed answers late data with RSTs."""
    decky = lab.deckies[0]
    serve(lab, decky, CLOSER, closer)
    address = decky.v4 if version == 4 else decky.v6
    agent = AgentProcess(lab, options=EVERYTHING)
    networks = "10.1.0.0/16", "2001:db8:c000::/48"
    here = "10.1.0.1" if version == 4 else "2001:db8:c000::1"
    with (
        Wire(lab, lab.client, networks) as wire,
        Peer(wire, (here, 40_000), (address, CLOSER), 1_000, stamps=False) as peer,
    ):
        peer.emit(at=-1, flags="S", options=MSS_OPTION)
        assert peer.wait(lambda: peer.connected)
        peer.accept()
        peer.push(b"abc")
        assert peer.wait(lambda: peer.finished)
        # It has not seen the decky's FIN when it sends its own one.
        peer.emit(flags="FA", ack=peer.expects - 1)
        peer.ended = True
        assert peer.wait(lambda: peer.acked == 4)
        peer.accept()
    agent.expect("tcp_flow_timing", src_port=40_000, close="fin")
    assert agent.stop() == 0
    assert_honest(agent, lab)
