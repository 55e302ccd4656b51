"""Servers for the lab's deckies. Each is ready when its function returns, and ends with the lab."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from deckwire.lab.certificates import Certificate
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.network import Lab, Node

_LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp."""
_PAGE = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nIt works\n"

Talk = Callable[[socket.socket], None]
"""Serves one connection. An OSError ends it without a message.

The connection is closed when nothing came for PATIENCE_SECONDS.
"""


def openssl_server(
    lab: Lab, node: Node, certificate: Certificate, port: int = 443, options: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Starts ``openssl s_server -www`` for IPv4 and IPv6, with `options` such as ``-tls1_2``."""
    process = lab.popen(
        node,
        [
            *("openssl", "s_server", "-quiet", "-www", "-accept", f"*:{port}"),
            *("-cert", certificate.certificate, "-key", certificate.key),
            *options,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: is_listening(process.pid, port), f"openssl s_server on {node.name}:{port}")
    return process


def tls_server(
    lab: Lab,
    node: Node,
    certificate: Certificate,
    port: int = 443,
    *,
    alpn: Sequence[str] = (),
    maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
) -> None:
    """Starts an HTTPS server of Python's ssl, up to TLS `maximum`, with the protocols `alpn`."""
    context = _context(certificate, alpn, maximum)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            _serve_page(secured)

    serve(lab, node, port, talk)


def http_server(lab: Lab, node: Node, port: int = 80) -> None:
    """Starts an HTTP server with one page."""
    serve(lab, node, port, _serve_page)


def smtp_server(
    lab: Lab,
    node: Node,
    certificate: Certificate,
    port: int = 25,
    *,
    maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
) -> None:
    """Starts an SMTP server that offers STARTTLS (RFC 3207) and takes no mail."""
    context = _context(certificate, (), maximum)

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 %s ESMTP\r\n" % node.name.encode())
        if _talk_smtp(connection, starttls=True):
            with context.wrap_socket(connection, server_side=True) as secured:
                _talk_smtp(secured, starttls=False)

    serve(lab, node, port, talk)


def serve(lab: Lab, node: Node, port: int, talk: Talk) -> None:
    """Starts a server for IPv4 and IPv6 that calls `talk` for each connection, in a thread."""
    with node.inside():
        listener = socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
        )
    # Its sockets stay in the node's namespace; the threads run in another.
    server = _Server(listener, talk)
    lab.on_close(server.close)
    threading.Thread(target=server.run, daemon=True).start()


def is_listening(pid: int, port: int) -> bool:
    """Whether the network namespace of a process has a TCP listener on `port`.

    It reads the kernel's list, because the agent would see a trial connection.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


class _Server:
    def __init__(self, listener: socket.socket, talk: Talk) -> None:
        self._listener = listener
        self._talk = talk
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self) -> None:
        with self._listener:
            while True:
                try:
                    connection, _ = self._listener.accept()
                except OSError:  # shut down by close()
                    return
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            # Wakes the threads, which then close their sockets.
            for open_socket in (self._listener, *self._connections):
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._connections.add(connection)
        try:
            connection.settimeout(PATIENCE_SECONDS)
            with connection, contextlib.suppress(OSError):
                self._talk(connection)
        finally:
            with self._lock:
                self._connections.discard(connection)


def _context(
    certificate: Certificate, alpn: Sequence[str], maximum: ssl.TLSVersion
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.maximum_version = maximum
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _serve_page(connection: socket.socket) -> None:
    with cast(BinaryIO, connection.makefile("rb")) as requests:
        # A client that connects and says nothing is a port scan.
        if requests.readline():
            while requests.readline() not in (b"\r\n", b"\n", b""):
                pass
            connection.sendall(_PAGE)


def _talk_smtp(connection: socket.socket, *, starttls: bool) -> bool:
    """Replies to commands until the client ends (False) or TLS is to begin (True)."""
    # Unbuffered, because what follows STARTTLS belongs to TLS.
    with cast(BinaryIO, connection.makefile("rb", buffering=0)) as commands:
        while line := commands.readline():
            verb = line.strip().upper().partition(b" ")[0]
            if verb == b"STARTTLS" and starttls:
                connection.sendall(b"220 Ready to start TLS\r\n")
                return True
            if verb == b"EHLO":
                connection.sendall(
                    b"250-lab\r\n" + b"250-STARTTLS\r\n" * starttls + b"250 HELP\r\n"
                )
            elif verb == b"QUIT":
                connection.sendall(b"221 Bye\r\n")
                return False
            else:
                connection.sendall(b"250 OK\r\n" if verb in (b"HELO", b"NOOP") else b"502 No\r\n")
    return False
