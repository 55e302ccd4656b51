"""ja4_stable of first, resumed and 0-RTT handshakes of real clients."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from deckwire.fingerprints.ja4 import ja4, ja4_stable
from deckwire.lab.namespaces import wait_until
from deckwire.tls.messages import ClientHello, parse_client_hello
from tests.support.flights import identity


def first_hello(client: bytes) -> ClientHello:
    """The ClientHello at the start of a client's bytes, in one record."""
    return parse_client_hello(client[9 : 5 + int.from_bytes(client[3:5], "big")])


class Relay(NamedTuple):
    port: int
    hellos: list[ClientHello]
    """Of the connections so far."""


@contextlib.contextmanager
def relayed_server(folder: Path, *options: str) -> Iterator[Relay]:
    """An `openssl s_server` with these options, behind a relay that reads hellos."""
    (folder / "identity.pem").write_bytes(identity()[0])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *("openssl", "s_server", "-accept", f"127.0.0.1:{port}"),
            *("-cert", str(folder / "identity.pem"), *options),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    hellos: list[ClientHello] = []
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if line.startswith(b"ACCEPT"):
                break
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=accept, args=(listener, port, hellos), daemon=True).start()
            yield Relay(listener.getsockname()[1], hellos)
    finally:
        server.kill()
        server.wait()


def accept(listener: socket.socket, port: int, hellos: list[ClientHello]) -> None:
    with contextlib.suppress(OSError):
        while True:
            outside = listener.accept()[0]
            inside = socket.create_connection(("127.0.0.1", port))
            data = b""
            while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
                data += outside.recv(65_536)
            hellos.append(first_hello(data))
            inside.sendall(data)
            for source, target in ((outside, inside), (inside, outside)):
                threading.Thread(target=pump, args=(source, target), daemon=True).start()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl not installed")
def test_openssl(tmp_path: Path) -> None:
    request = tmp_path / "request"
    request.write_bytes(b"GET / HTTP/1.0\r\n\r\n")
    session = tmp_path / "session"
    with relayed_server(tmp_path, "-early_data", "-no_anti_replay") as relay:
        for more in (
            ["-sess_out", str(session)],
            ["-sess_in", str(session)],
            ["-sess_in", str(session), "-early_data", str(request)],
        ):
            count = len(relay.hellos)
            client = subprocess.Popen(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", *more],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # The server sends its ticket after the handshake.
            wait_until(
                lambda count=count: len(relay.hellos) > count and session.exists(),
                "the client has its session",
                60,
            )
            client.kill()
            client.wait()
    first, resumed, early = relay.hellos
    assert (resumed.has_pre_shared_key, early.has_early_data) == (True, True)
    assert len({ja4(hello) for hello in relay.hellos}) == 3
    assert ja4_stable(first) == ja4_stable(resumed) == ja4_stable(early)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl not installed")
def test_curl(tmp_path: Path) -> None:
    with relayed_server(tmp_path, "-www") as relay:
        url = f"https://127.0.0.1:{relay.port}/"
        words = ["curl", "-sk", "--http1.1", "-H", "Connection: close", url, url]
        subprocess.run(words, capture_output=True, check=False)
    first, resumed = relay.hellos
    assert resumed.has_pre_shared_key
    assert ja4(first) != ja4(resumed)
    assert ja4_stable(first) == ja4_stable(resumed)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_python(tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    session = None
    with relayed_server(tmp_path, "-www") as relay:
        for _ in range(2):
            plain = socket.create_connection(("127.0.0.1", relay.port))
            with context.wrap_socket(plain, session=session) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while client.recv(65_536):
                    pass
                session = client.session
    first, resumed = relay.hellos
    assert resumed.has_session_ticket or resumed.has_pre_shared_key
    assert ja4_stable(first) == ja4_stable(resumed)
