"""Receivers and spools that fail: one line each, no loss elsewhere, an end without a restart."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import wait_until
from deckwire.lab.servers import http_server
from deckwire.output.sinks.spooled import SpoolFolder
from tests.output.sinks.test_tls import NAME, Authority, Files, Server
from tests.support.rsyslog_server import free_port
from tests.support.watching import EVERYTHING, PROGRAM, SyslogAgent, fetch_plain

pytestmark = pytest.mark.root

CONNECTIONS = 10
NOT_THERE = "logs.example.test"
"""A name that nobody knows until it is written into the agent's /etc/hosts."""

# The agent sees files of its own for names, and a file system of its own for its spools.
MOUNTS = """
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
mount -t tmpfs -o size=2m none "$1/state/spool"
cp -r "$1/prepared/." "$1/state/spool"
mount -o remount,"$2" "$1/state/spool"
shift 2
exec "$@"
"""


class HttpServer(ThreadingHTTPServer):
    """Answers every batch with `status`, and keeps the lines of those that it took."""

    daemon_threads = True

    def __init__(self, files: Files | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.lines: list[bytes] = []
        self._context = None if files is None else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if files is not None:
            self.show(files)
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def show(self, files: Files) -> None:
        """Use this certificate for the connections from now on."""
        assert self._context is not None
        self._context.load_cert_chain(files.certificate, files.key)

    def finish_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Shake hands in the thread of the request."""
        assert isinstance(request, socket.socket)
        if self._context is not None:
            request = self._context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, *_: object) -> None:
        """A client that does not believe the certificate is expected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpServer

    def do_POST(self) -> None:
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status == 200:
            self.server.lines += body.splitlines()
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky with a web page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


def agent_on(lab: Lab, folder: Path, outputs: list[str], disk: str = "rw") -> SyslogAgent:
    """An agent with these outputs, with its own /etc/hosts and disk of spools in `folder`.

    What is in folder/prepared is on the disk when the agent starts.
    """
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    (folder / "nsswitch.conf").write_text("hosts: files\n")
    (folder / "state/spool").mkdir(parents=True)
    (folder / "prepared").mkdir(exist_ok=True)
    return SyslogAgent(
        lab,
        folder,
        *(*EVERYTHING, "--state-dir", str(folder / "state")),
        *(word for output in outputs for word in ("--output", output)),
        program=["unshare", "--mount", "sh", "-ec", MOUNTS, "sh", str(folder), disk, *PROGRAM],
    )


def visit(lab: Lab, web: Node, log: Path, connections: int = CONNECTIONS) -> None:
    """Make connections, and wait for their last event in the log."""
    before = log.read_bytes().count(b" - tcp_flow_timing [")
    for _ in range(connections):
        fetch_plain(lab.client, web.v4)

    def is_there() -> bool:
        return log.read_bytes().count(b" - tcp_flow_timing [") >= before + connections

    wait_until(is_there, "the file output has every event")


def said(agent: SyslogAgent, *parts: str) -> list[str]:
    """The lines of the agent that have all of these parts."""
    lines = agent.messages.read_text().splitlines()
    return [line for line in lines if all(part in line for part in parts)]


@contextmanager
def listener() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as made:
        yield made


def test_every_receiver_that_fails_is_one_line_and_comes_back_by_itself(
    lab: Lab, web: Node, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ca")
    right = authority.certify(NAME)
    expired = authority.certify(NAME, days=-1)
    unknown = Authority(tmp_path, "unknown").certify("unknown.example.test")
    misnamed = authority.certify("evil.example.test")
    log = tmp_path / "log"
    with ExitStack() as stack:
        sockets = [stack.enter_context(listener()) for _ in range(4)]
        servers = [
            Server(made, files)
            for made, files in zip(sockets, (unknown, expired, misnamed, right), strict=True)
        ]
        secure, busy = HttpServer(expired), HttpServer()
        stack.callback(secure.shutdown)
        stack.callback(busy.shutdown)
        busy.status = 500
        refused = free_port()
        tls = [f"tls:127.0.0.1:{made.getsockname()[1]}" for made in sockets[:3]]
        tls.append(f"tls:{NOT_THERE}:{sockets[3].getsockname()[1]}")
        expected = dict(
            zip(
                tls,
                (
                    "its certificate is refused: unable to get local issuer certificate",
                    "its certificate is refused: certificate has expired",
                    "its certificate is refused: Hostname mismatch",
                    "Name or service not known",
                ),
                strict=True,
            )
        )
        trust = f",ca={authority.path},name={NAME}"
        https = f"https://127.0.0.1:{secure.port}/events"
        http = f"http://127.0.0.1:{busy.port}/events"
        expected[https] = "its certificate is refused: certificate has expired"
        expected[http] = "answers 500 Internal Server Error"
        tcp = f"tcp:127.0.0.1:{refused}"
        expected[tcp] = "Connection refused"
        agent = agent_on(
            lab,
            tmp_path,
            [f"file:{log}", *(output + trust for output in [*tls, https]), http, tcp],
        )
        visit(lab, web, log)
        for output, reason in expected.items():
            wait_until(lambda o=output, r=reason: said(agent, o, r), f"{output}: {reason}")

        # Everything becomes right, and the agent is left alone.
        for server in servers:
            server.show(right)
        secure.show(right)
        busy.status = 200
        (tmp_path / "hosts").write_text(f"127.0.0.1 localhost {NOT_THERE}\n")
        made = stack.enter_context(closing(socket.create_server(("127.0.0.1", refused))))
        plain = stack.enter_context(closing(made.accept()[0]))
        received = bytearray()
        Thread(target=_read, args=(plain, received), daemon=True).start()
        for output in expected:
            wait_until(lambda o=output: said(agent, o, "works again"), f"{output} works")
            assert len(said(agent, f"output {output}: ")) == 2, said(agent, output)
        visit(lab, web, log)
        agent.stop()
        lines = log.read_bytes().splitlines()
        # A connection has four events: its handshake, its request, its end and its SYN.
        assert len(lines) == 2 * 4 * CONNECTIONS + 1
        wait_until(lambda: secure.lines == busy.lines == lines, "HTTP receivers have every line")
        framed = b"".join(b"%d %b" % (len(line), line) for line in lines)
        wait_until(lambda: bytes(received) == framed, "the TCP receiver has every line")
        for server in servers:
            wait_until(lambda s=server: b"".join(s.received) == framed, "TLS receivers have them")
    assert not said(agent, "lost at the outputs")
    assert not said(agent, "Traceback")
    (sums,) = [line for line in lines if b" - capture_stats [" in line]
    for kind in ("tls_failed_connect", "tcp_failed_connect", "http_failed_receiver"):
        assert f' output_{kind}="'.encode() in sums
        assert f' output_{kind}="0"'.encode() not in sums


def _read(connection: socket.socket, into: bytearray) -> None:
    while data := connection.recv(65_536):
        into += data


def test_a_spool_whose_disk_fails_is_one_line_and_works_again(
    lab: Lab, web: Node, tmp_path: Path
) -> None:
    """Its disk is read-only and its content damaged, then the disk is full."""
    log = tmp_path / "log"
    server = HttpServer()
    output = f"http://127.0.0.1:{server.port}/events"
    spool = Path(SpoolFolder("").path_for(output)).name
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / spool).write_bytes(b"no database" * 1_000)
    agent = agent_on(lab, tmp_path, [f"file:{log}", output], disk="ro")
    inside = Path(f"/proc/{agent.process.pid}/root{tmp_path}/state/spool")

    def arrived() -> bool:
        """Lines whose acknowledgement could not be written are sent twice."""
        return list(dict.fromkeys(server.lines)) == log.read_bytes().splitlines()

    def settled(reports: int) -> None:
        wait_until(lambda: len(said(agent, output, "works again")) == reports, "it works again")
        wait_until(arrived, "all lines arrive")

    visit(lab, web, log)
    wait_until(lambda: said(agent, output, "Read-only file system"), "the failure is reported")
    enter = ("nsenter", "-t", str(agent.process.pid), "-m")
    subprocess.run([*enter, "mount", "-o", "remount,rw", tmp_path / "state/spool"], check=True)
    settled(1)
    assert len(said(agent, output)) == 3, said(agent, output)
    assert said(agent, output, "the spool was damaged; moved to")
    assert len(list(inside.glob("*.damaged-*"))) == 1

    filler = inside / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4_096))
    visit(lab, web, log, 4 * CONNECTIONS)
    wait_until(lambda: said(agent, output, "disk is full"), "the full disk is reported")
    filler.unlink()
    settled(2)
    assert len(said(agent, output)) == 5, said(agent, output)
    agent.stop()
    server.shutdown()
    assert arrived()
    assert not said(agent, "lost at the outputs")
