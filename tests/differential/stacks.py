"""Hellos by real TLS libraries, against an OpenSSL server that keeps what passes.

OpenSSL runs in memory; the others are programs that connect to a socket of this host.
"""

from __future__ import annotations

import contextlib
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

from differential.wire import Exchange
from tls.flights import context, identity

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


def openssl() -> list[Exchange]:
    """Handshakes in memory, of many contexts."""
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
        found.append(_in_memory(what, client, server, name))
    return found


def curl_cffi() -> list[Exchange]:
    """BoringSSL as the browsers that curl_cffi impersonates set it up."""
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
    """gnutls-cli, if it is installed."""
    base = ["gnutls-cli", "--insecure", "--no-ca-verification"]
    runs = [(*base, f"--priority={text}") for text in GNUTLS_PRIORITIES]
    runs += [(*base, "--alpn=h2", "--alpn=http/1.1"), (*base, "--disable-sni"), (*base, "--ocsp")]
    runs += [(*base, "--recordsize=1024"), (*base, "--disable-extensions")]
    return _programs("GnuTLS", [(*run, "-p", "PORT", "localhost") for run in runs])


def nss() -> list[Exchange]:
    """NSS's tstclnt, if it is installed."""
    base = ("tstclnt", "-4", "-h", "localhost", "-p", "PORT", "-D", "-o", "-Q")
    return _programs("NSS", [(*base, *options) for options in NSS_OPTIONS])


def gnutls_server() -> list[Exchange]:
    """gnutls-serv, if it is installed, answering OpenSSL in memory."""
    if shutil.which("gnutls-serv") is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "identity.pem"
        pem.write_bytes(identity()[0])
        port = _free_port()
        command = ["gnutls-serv", "-q", "-p", str(port), "--http", "--alpn=h2"]
        command += [f"--x509keyfile={pem}", f"--x509certfile={pem}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                return [_ask(port, *how) for how in _client_ways()]
            finally:
                server.kill()


ALL = {
    "OpenSSL": openssl,
    "curl_cffi": curl_cffi,
    "GnuTLS": gnutls,
    "GnuTLS server": gnutls_server,
    "NSS": nss,
}


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
        yield f"GnuTLS's answer to {version.name} {cipher} {alpn}", client


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _ask(port: int, what: str, client: ssl.SSLContext) -> Exchange:
    """A first flight of OpenSSL's and all that a server on this host answers to it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client.wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    sent = outgoing.read()
    received = b""
    with _connected(port) as connection:
        connection.sendall(sent)
        # The end of our side makes the server give up, so that there is an end to read to.
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            for chunk in _chunks(connection):
                received += chunk
    return Exchange(what, sent, received)


def _connected(port: int) -> socket.socket:
    """A connection to a server that may still be starting."""
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
        # Old versions are what some clients have to be answered in.
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version = ssl.TLSVersion.TLSv1
    made.set_ciphers("ALL:@SECLEVEL=0")
    return made


def _in_memory(
    what: str, client: ssl.SSLContext, server: ssl.SSLContext, name: str | None
) -> Exchange:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        (client.wrap_bio(to_client, to_server, server_hostname=name), to_server),
        (server.wrap_bio(to_server, to_client, server_side=True), to_client),
    )
    sent = [b"", b""]
    for side, (peer, outgoing) in ((0, sides[0]), (1, sides[1])):
        # A refusal is an answer too; a first flight each is all that is wanted.
        with contextlib.suppress(ssl.SSLError):
            peer.do_handshake()
        sent[side] = outgoing.read()
        outgoing.write(sent[side])
    return Exchange(what, *sent)


def _programs(stack: str, commands: list[tuple[str, ...]]) -> list[Exchange]:
    if shutil.which(commands[0][0]) is None:
        return []

    def run(command: tuple[str, ...]) -> Callable[[int], None]:
        def connect(port: int) -> None:
            words = [word.replace("PORT", str(port)) for word in command]
            subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_WAIT_S, check=False
            )

        return connect

    return _against_socket([(f"{stack} {' '.join(each)}", run(each)) for each in commands])


def _against_socket(clients: list[tuple[str, Callable[[int], None]]]) -> list[Exchange]:
    """Runs the clients one after another; those that send nothing are left out."""
    found = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_WAIT_S)
        port = listener.getsockname()[1]
        for what, connect in clients:
            kept: list[Exchange] = []
            thread = threading.Thread(target=_answer, args=(what, listener, kept), daemon=True)
            thread.start()
            # What the client thinks of the handshake does not matter, only what it sent.
            with contextlib.suppress(Exception):
                connect(port)
            thread.join(_WAIT_S * 2)
            found += kept
    return found


def _answer(what: str, listener: socket.socket, kept: list[Exchange]) -> None:
    """One handshake of an OpenSSL server; what both sides sent goes into `kept`."""
    with contextlib.suppress(OSError), listener.accept()[0] as connection:
        connection.settimeout(_WAIT_S)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = _server().wrap_bio(incoming, outgoing, server_side=True)
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
            answer = outgoing.read()
            sent += answer
            connection.sendall(answer)
            if finished:
                break
        if received:
            kept.append(Exchange(what, received, sent))


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    while chunk := connection.recv(1 << 16):
        yield chunk
