"""Hellos by real TLS libraries, exchanged with OpenSSL and recorded.

OpenSSL and rustls run in memory. The others are programs that connect to a socket of this host. A
stack that is not installed gives no exchanges.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tests.differential.wire import Exchange
from tests.support.flights import context, identity

_WAIT_S = 10.0

GNUTLS_PRIORITIES = (
    "NORMAL",
    "NORMAL:-VERS-TLS1.3",
    "NORMAL:-VERS-ALL:+VERS-TLS1.3",
    "NORMAL:-VERS-ALL:+VERS-TLS1.2:+VERS-TLS1.1:+VERS-TLS1.0",
    "SECURE256",
    "SECURE192:-GROUP-ALL:+GROUP-SECP384R1",
    "PERFORMANCE:%NO_EXTENSIONS:-VERS-TLS1.3",
    "PFS:%COMPAT",
    "LEGACY",
    "NORMAL:+GROUP-FFDHE2048:-CTYPE-ALL:+CTYPE-X509",
    "NORMAL:%DISABLE_SAFE_RENEGOTIATION:%NO_TICKETS",
    "NORMAL:-SIGN-ALL:+SIGN-RSA-SHA256",
)
NSS_OPTIONS = (
    (),
    ("-V", "tls1.2:tls1.2"),
    ("-V", "tls1.0:tls1.3"),
    ("-V", "tls1.3:tls1.3"),
    ("-u", "-G", "-T", "-U"),
    ("-B", "-u"),
    ("-I", "P256,P384,x25519"),
    ("-i", "64"),
    ("-J", "ecdsa_secp256r1_sha256,rsa_pss_rsae_sha256"),
    ("-H",),
)
GO_SOURCE = Path(__file__).with_name("gopeer.go")
GO_VERSIONS = (("1.0", "1.0"), ("1.0", "1.1"), ("1.0", "1.2"), ("1.2", "1.3"), ("1.3", "1.3"))
GO_OPTIONS = (
    (),
    ("-name=",),
    ("-alpn=h2,http/1.1",),
    ("-tickets=false",),
    ("-resume",),
    ("-curves=29",),
    ("-curves=25,24,23", "-alpn=http/1.1"),
    ("-suites=all",),
    ("-suites=TLS_RSA_WITH_AES_128_CBC_SHA,TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "-name="),
)
RUSTLS_CIPHERS = (
    "DEFAULT",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-CHACHA20-POLY1305",
)


class Peer(Protocol):
    """One side of a handshake in memory: an SSLObject of OpenSSL or rustls."""

    def do_handshake(self) -> None:
        """Continue the handshake; raises SSLError if it needs more bytes or has failed."""


class Side(NamedTuple):
    """A peer with its two BIOs, whose type depends on the library."""

    peer: Peer
    incoming: Any
    outgoing: Any


def openssl() -> list[Exchange]:
    """Return handshakes of OpenSSL in memory, with many settings."""
    found = []
    versions = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    protocols: tuple[list[str], ...] = ([], ["h2", "http/1.1"], ["x"])
    ciphers = ("DEFAULT", "ALL:COMPLEMENTOFALL", "ECDHE+AESGCM", "AES256-SHA")
    options = (0, ssl.OP_NO_TICKET, ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION)
    curves = ("prime256v1", "secp384r1", "secp521r1")
    for version, alpn, cipher, option, curve, name in itertools.product(
        versions, protocols, ciphers, options, curves, ("decoy.example", None)
    ):
        client = context(ssl.PROTOCOL_TLS_CLIENT, version, alpn=alpn or ["h2"])
        if not alpn:
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client.maximum_version = version
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        client.options |= option
        client.set_ciphers(f"{cipher}:@SECLEVEL=0")
        server = _server(version)
        server.set_ecdh_curve(curve)
        what = f"OpenSSL {version.name} {alpn} {cipher} {option} {curve} {name}"
        found.append(_in_memory(what, _side(ssl, client, server_hostname=name), server))
    return found


def rtls() -> Any:
    """Return the module rtls; None if it is not installed."""
    if importlib.util.find_spec("rtls") is None:
        return None
    return importlib.import_module("rtls")


def rustls() -> list[Exchange]:
    """Return handshakes of rustls clients, by the package rtls with the interface of `ssl`."""
    if (library := rtls()) is None:
        return []
    found = []
    for version, alpn, ciphers, curve, name in itertools.product(
        ("TLSv1_2", "TLSv1_3"),
        ([], ["h2", "http/1.1"], ["x"]),
        RUSTLS_CIPHERS,
        ("prime256v1", "secp384r1"),
        ("decoy.example", None),
    ):
        client = library.SSLContext(library.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = library.CERT_NONE
        client.maximum_version = library.TLSVersion[version]
        client.set_ciphers(ciphers)
        if alpn:
            client.set_alpn_protocols(alpn)
        server = _server()
        server.set_ecdh_curve(
            curve
        )  # a group without a key share: the server sends HelloRetryRequest
        what = f"rustls {version} {alpn} {ciphers} {curve} {name}"
        # Twice, because the order of its extensions is random.
        for _ in range(2):
            found.append(_in_memory(what, _side(library, client, server_hostname=name), server))
    return found


def rustls_server() -> list[Exchange]:
    """Return handshakes of rustls servers with OpenSSL clients in memory."""
    if (library := rtls()) is None:
        return []
    found = []
    with _identity_file() as pem:
        for (what, client), alpn in itertools.product(_client_ways(), ([], ["http/1.1"])):
            server = library.SSLContext(library.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(str(pem))
            if alpn:
                server.set_alpn_protocols(alpn)
            side = _side(library, server, server_side=True)
            found.append(_in_memory(f"rustls server {alpn} with {what}", _side(ssl, client), side))
    return found


def curl_cffi() -> list[Exchange]:
    """Return handshakes of BoringSSL with the settings of browsers, by curl_cffi."""
    from curl_cffi.requests import BrowserType, Session  # noqa: PLC0415 - slow to load

    def connect(browser: str) -> Callable[[int], None]:
        def get(port: int) -> None:
            with Session() as session:
                session.get(
                    f"https://localhost:{port}/", impersonate=browser, verify=False, timeout=_WAIT_S
                )

        return get

    browsers = sorted({browser.value for browser in BrowserType})
    return _against_socket([(f"curl_cffi {name}", connect(name)) for name in browsers])


def gnutls() -> list[Exchange]:
    """Return handshakes of gnutls-cli."""
    if shutil.which("gnutls-cli") is None:
        return []
    base = ["gnutls-cli", "--insecure", "--no-ca-verification"]
    runs = [(*base, f"--priority={text}") for text in GNUTLS_PRIORITIES]
    runs += [(*base, "--alpn=h2", "--alpn=http/1.1"), (*base, "--disable-sni"), (*base, "--ocsp")]
    runs += [(*base, "--recordsize=1024"), (*base, "--disable-extensions"), (*base, "--resume")]
    return _programs("GnuTLS", [(*run, "-p", "PORT", "localhost") for run in runs])


def nss() -> list[Exchange]:
    """Return handshakes of tstclnt, which is the test client of NSS."""
    if shutil.which("tstclnt") is None:
        return []
    base = ("tstclnt", "-4", "-h", "localhost", "-p", "PORT", "-D", "-o", "-Q")
    return _programs("NSS", [(*base, *options) for options in NSS_OPTIONS])


def go() -> list[Exchange]:
    """Return handshakes of clients with Go's crypto/tls."""
    with _go_peer() as peer:
        if peer is None:
            return []
        base = (peer, "-port=PORT", "-name=decoy.example")
        runs = [
            (*base, f"-min={lowest}", f"-max={highest}", *options)
            for (lowest, highest), options in itertools.product(GO_VERSIONS, GO_OPTIONS)
        ]
        return _programs("Go", runs)


def gnutls_server() -> list[Exchange]:
    """Return handshakes of gnutls-serv with OpenSSL clients."""
    if shutil.which("gnutls-serv") is None:
        return []
    command = ["gnutls-serv", "-q", "-p", "PORT", "--http", "--alpn=h2"]
    command += ["--x509keyfile=IDENTITY", "--x509certfile=IDENTITY"]
    return _answers("GnuTLS", command)


def go_server() -> list[Exchange]:
    """Return handshakes of servers with Go's crypto/tls, with OpenSSL clients."""
    with _go_peer() as peer:
        if peer is None:
            return []
        found = []
        for highest, alpn in itertools.product(("1.2", "1.3"), ("", "h2")):
            command = [peer, "-port=PORT", "-identity=IDENTITY", f"-max={highest}", f"-alpn={alpn}"]
            found += _answers(f"Go {highest} {alpn}", command)
        return found


ALL = {
    "OpenSSL": openssl,
    "curl_cffi": curl_cffi,
    "GnuTLS": gnutls,
    "GnuTLS server": gnutls_server,
    "NSS": nss,
    "Go": go,
    "Go server": go_server,
    "rustls": rustls,
    "rustls server": rustls_server,
}


@contextlib.contextmanager
def _go_peer() -> Iterator[str | None]:
    """Build gopeer.go and return its path; None if Go is not installed."""
    if shutil.which("go") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        peer = f"{folder}/gopeer"
        subprocess.run(["go", "build", "-o", peer, GO_SOURCE], check=True)
        yield peer


@contextlib.contextmanager
def _identity_file() -> Iterator[Path]:
    """Write a PEM file with key and certificate of a server; return its path."""
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "identity.pem"
        pem.write_bytes(identity()[0])
        yield pem


def _answers(stack: str, command: list[str]) -> list[Exchange]:
    """Return exchanges of OpenSSL clients with a server that listens at PORT with IDENTITY."""
    port = _free_port()
    with _identity_file() as pem:
        words = [word.replace("PORT", str(port)).replace("IDENTITY", str(pem)) for word in command]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                return [
                    _ask(port, f"{stack} with {what}", client) for what, client in _client_ways()
                ]
            finally:
                server.kill()


def _client_ways() -> Iterator[tuple[str, ssl.SSLContext]]:
    for version, cipher, alpn in itertools.product(
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
        ("DEFAULT", "ECDHE+AESGCM", "ECDHE+CHACHA20"),
        (["h2"], ["http/1.1"], []),
    ):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        client.maximum_version = version
        client.set_ciphers(cipher)
        if alpn:
            client.set_alpn_protocols(alpn)
        yield f"{version.name} {cipher} {alpn}", client


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _ask(port: int, what: str, client: ssl.SSLContext) -> Exchange:
    """Return the first flight of an OpenSSL client and all bytes that the server sends back."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client.wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    sent = outgoing.read()
    received = b""
    with _connected(port) as connection:
        connection.sendall(sent)
        # Closing our side makes the server close, which ends the reading.
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            for chunk in _chunks(connection):
                received += chunk
    return Exchange(what, sent, received)


def _connected(port: int) -> socket.socket:
    """Return a connection to a server, which may still be starting."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=_WAIT_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _server(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    made = context(ssl.PROTOCOL_TLS_SERVER, version, alpn=["http/1.1"])
    with warnings.catch_warnings():
        # Some clients offer only old versions.
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version = ssl.TLSVersion.TLSv1
    made.set_ciphers("ALL:@SECLEVEL=0")
    return made


def _side(library: Any, context: Any, **how: Any) -> Side:
    """Return a peer of the module `ssl`, or of a module with the same interface."""
    incoming, outgoing = library.MemoryBIO(), library.MemoryBIO()
    return Side(context.wrap_bio(incoming, outgoing, **how), incoming, outgoing)


def _in_memory(what: str, client: Side, server: ssl.SSLContext | Side) -> Exchange:
    """Exchange two flights of each side; after a HelloRetryRequest the second has a hello."""
    if isinstance(server, ssl.SSLContext):
        server = _side(ssl, server, server_side=True)
    sent = [b"", b""]
    for index, side, other in ((0, client, server), (1, server, client)) * 2:
        # An alert is a flight, too.
        with contextlib.suppress(ssl.SSLError):
            side.peer.do_handshake()
        flight = side.outgoing.read()
        sent[index] += flight
        other.incoming.write(flight)
    return Exchange(what, *sent)


def _programs(stack: str, commands: list[tuple[str, ...]]) -> list[Exchange]:
    def run(command: tuple[str, ...]) -> Callable[[int], None]:
        def connect(port: int) -> None:
            words = [word.replace("PORT", str(port)) for word in command]
            subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_WAIT_S, check=False
            )

        return connect

    return _against_socket([(f"{stack} {' '.join(each)}", run(each)) for each in commands])


def _against_socket(clients: list[tuple[str, Callable[[int], None]]]) -> list[Exchange]:
    """Run the clients one after another; leave out those that send nothing."""
    found = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_WAIT_S)
        port = listener.getsockname()[1]
        for what, connect in clients:
            kept: list[Exchange] = []
            done = threading.Event()
            thread = threading.Thread(target=_serve, args=(what, listener, done, kept), daemon=True)
            thread.start()
            # Only the bytes that the client sent matter, not its exit status.
            with contextlib.suppress(Exception):
                connect(port)
            done.set()
            _connected(port).close()  # so that accept() returns
            thread.join(_WAIT_S * 2)
            found += kept
    return found


def _serve(what: str, listener: socket.socket, done: threading.Event, kept: list[Exchange]) -> None:
    """Serve the connections of one client; later ones may resume the session of the first."""
    server = _server()
    while True:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            if done.is_set():
                return
            connection.settimeout(_WAIT_S)
            _answer(what, connection, server, kept)


def _answer(
    what: str, connection: socket.socket, context: ssl.SSLContext, kept: list[Exchange]
) -> None:
    """Run a handshake as an OpenSSL server; append the bytes of both sides to `kept`."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    sent, received = b"", b""
    for chunk in _chunks(connection):
        received += chunk
        incoming.write(chunk)
        try:
            server.do_handshake()
            finished = True
        except ssl.SSLWantReadError:
            finished = False
        except ssl.SSLError:
            finished = True
        reply = outgoing.read()
        sent += reply
        connection.sendall(reply)
        if finished:
            break
    if received:
        kept.append(Exchange(what, received, sent))


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    while chunk := connection.recv(1 << 16):
        yield chunk
