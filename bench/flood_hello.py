"""Floods of ClientHellos from many sources, each made to be costly to read."""

from __future__ import annotations

import itertools
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from struct import pack

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench import cpu, real_sessions
from bench.figures import Line
from bench.observers import Agent
from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import wait_until
from deckwire.lab.servers import is_listening
from deckwire.limits import CERTIFICATES

SECTION = "floods of hellos"
PORT = 8_443
HELD = 2_000
"""Connections held open at once, each with a hello that never ends."""

_HELLO_BYTES = 517
_LARGEST = _RECORD = 16_384
_SERIAL = bytes.fromhex("1122334455667788")
_NAMES = 20
"""Subject alternative names of each certificate."""


def measure(lab: Lab, sessions: int) -> list[Line]:
    """Run each kind of flood while a client makes `sessions` real TLS sessions.

    The lab's client needs many addresses.
    """
    target, real = lab.deckies[0], lab.deckies[1]
    sink = serve_sink(lab, target)
    lines = []
    for what, attack in _KINDS.items():
        agent = Agent(lab, ["--dedup-ttl", "0"])
        made = itertools.count()

        def run(over: threading.Event, attack: Attack = attack, made: Iterator[int] = made) -> None:
            attack(connections(lab, target, made), over)

        outcome = real_sessions.under_attack(lab, agent, real, sessions, run)
        agent.stop()
        lines += real_sessions.lines(SECTION, f"during {next(made):,} {what}", real, agent, outcome)
    sink.terminate()
    sink.wait()
    return lines


def serve_sink(lab: Lab, target: Node) -> subprocess.Popen[bytes]:
    """Run a server on PORT of a decky that reads everything and sends nothing."""
    sink = lab.popen(target, [sys.executable, str(Path(__file__).parent / "sink.py"), str(PORT)])
    cpu.pin(sink.pid, cpu.SERVERS)
    wait_until(lambda: is_listening(sink.pid, PORT), "the sink listens")
    return sink


Attack = Callable[[Iterator[socket.socket], threading.Event], None]
"""A function that takes connections and uses them until the event is set."""


def connections(lab: Lab, target: Node, made: Iterator[int]) -> Iterator[socket.socket]:
    """Connections to the sink from one source after another."""
    for source in itertools.cycle(lab.client.ipv4):
        connection = lab.client.connect(target.v4, PORT, source)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Close with a reset: a flood would soon use up all ports in TIME-WAIT.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        next(made)
        yield connection


def _garbage(connections: Iterator[socket.socket], over: threading.Event) -> None:
    source = random.Random(1)
    while not over.is_set():
        with next(connections) as connection:
            connection.sendall(source.randbytes(1_000))


def _drip(connections: Iterator[socket.socket], over: threading.Event) -> None:
    hello = client_hello(_HELLO_BYTES)
    while not over.is_set():
        with next(connections) as connection:
            for byte in hello:
                connection.send(bytes([byte]))


def _unfinished(connections: Iterator[socket.socket], over: threading.Event) -> None:
    held: list[socket.socket] = []
    hello = client_hello(_HELLO_BYTES)
    while not over.is_set():
        connection = next(connections)
        connection.sendall(hello[:-1])
        held.append(connection)
        if len(held) > HELD:
            held.pop(0).close()
    for connection in held:
        connection.close()


def _large(connections: Iterator[socket.socket], over: threading.Event) -> None:
    hello = client_hello(_LARGEST)
    while not over.is_set():
        with next(connections) as connection:
            connection.sendall(hello)


def _chains(connections: Iterator[socket.socket], over: threading.Event) -> None:
    """New certificates every time, as many as the agent reads from one message."""
    hello, template = client_hello(_HELLO_BYTES), _certificate()
    while not over.is_set():
        with next(connections) as connection:
            connection.sendall(hello + _certificate_records(template))


_KINDS: dict[str, Attack] = {
    "connections with garbage": _garbage,
    "hellos one byte a segment": _drip,
    "hellos that never end": _unfinished,
    "hellos of 16 KB": _large,
    f"chains of {CERTIFICATES} certificates, each a new one": _chains,
}


def client_hello(size: int) -> bytes:
    """A well-formed ClientHello (RFC 8446, 4.1.2), padded (RFC 7685) to a message of `size`."""
    name = b"www.example.test"
    extensions = [
        _extension(0, pack("!HBH", len(name) + 3, 0, len(name)) + name),
        _extension(10, pack("!HHH", 4, 0x001D, 0x0017)),
        _extension(13, pack("!HHH", 4, 0x0403, 0x0804)),
        _extension(43, b"\x04\x03\x04\x03\x03"),
    ]
    head = b"\x03\x03" + bytes(32) + b"\0" + pack("!HHHH", 6, 0x1301, 0x1302, 0xC02F) + b"\x01\0"
    known = 4 + len(head) + 2 + sum(map(len, extensions)) + 4
    extensions.append(_extension(21, bytes(size - known)))
    body = b"".join(extensions)
    message = head + pack("!H", len(body)) + body
    message = b"\x01" + len(message).to_bytes(3) + message
    return pack("!BHH", 22, 0x0301, len(message)) + message


def _certificate() -> bytes:
    """A self-signed certificate with the serial number `_SERIAL` and an EC key, cheap to make."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bomb.example.test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), int.from_bytes(_SERIAL))
    builder = builder.not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2027, 1, 1))
    names = [x509.DNSName(f"{n}.bomb.example.test") for n in range(_NAMES)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _certificate_records(template: bytes) -> bytes:
    """A Certificate message (RFC 5246, 7.4.2) of copies, each with its own serial number."""
    chain = b""
    for _ in range(CERTIFICATES):
        certificate = template.replace(_SERIAL, b"\x11" + random.randbytes(len(_SERIAL) - 1))
        chain += len(certificate).to_bytes(3) + certificate
    body = len(chain).to_bytes(3) + chain
    message = b"\x0b" + len(body).to_bytes(3) + body
    pieces = [message[at : at + _RECORD] for at in range(0, len(message), _RECORD)]
    return b"".join(pack("!BHH", 22, 0x0303, len(piece)) + piece for piece in pieces)


def _extension(kind: int, body: bytes) -> bytes:
    return pack("!HH", kind, len(body)) + body
