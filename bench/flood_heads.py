"""Floods of first bytes from many sources at default settings, while honest clients use TLS.

Each connection is a whole one and says something new, so that no suppression helps.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from struct import pack

from bench import visits
from bench.figures import Line
from bench.flood_hello import connections, serve_sink
from deckwire.lab import Lab, Node

SECTION = "floods of first bytes, default settings"

_SETTLE_SECONDS = 1.0
_GARBAGE_BYTES = 1_000
_KEXINIT, _ECDH_INIT = 20, 30
_COOKIE_BYTES, _LISTS = 16, 10


def measure(lab: Lab, sessions: int, seconds: float) -> list[Line]:
    """Run each flood while `sessions` are made within `seconds`, and as many after it."""
    target = lab.deckies[0]
    sink = serve_sink(lab, target)
    lines = []
    try:
        for what, heads in _KINDS.items():

            def flood(
                begun: threading.Event,
                over: threading.Event,
                heads: Callable[[], Iterator[bytes]] = heads,
            ) -> int:
                return _flood(lab, target, heads(), begun, over)

            lines += visits.around(lab, SECTION, what, sessions, seconds, flood, unit="connections")
    finally:
        sink.terminate()
        sink.wait()
    return lines


def _flood(
    lab: Lab, target: Node, heads: Iterator[bytes], begun: threading.Event, over: threading.Event
) -> int:
    """Make a connection for each head, as fast as the client can; their number."""
    started, made = time.monotonic(), itertools.count()
    opened = connections(lab, target, made)
    while not over.is_set():
        with next(opened) as connection:
            connection.sendall(next(heads))
        if time.monotonic() - started > _SETTLE_SECONDS:
            begun.set()
    return next(made)


def _banners() -> Iterator[bytes]:
    """Banner, KEXINIT and the message after it (RFC 4253, 4.2 and 7.1), each with other names."""
    for number in itertools.count():
        lists = [b"curve25519-sha256,a%d@example.test" % number] + [
            b"aes128-ctr,%d-%d@example.test" % (number, at) for at in range(1, _LISTS)
        ]
        body = b"".join(pack(">I", len(names)) + names for names in lists)
        yield b"".join(
            (
                b"SSH-2.0-Client_%d\r\n" % number,
                _packet(bytes([_KEXINIT]) + bytes(_COOKIE_BYTES) + body + bytes(5)),
                _packet(bytes([_ECDH_INIT]) + bytes(36)),
            )
        )


def _packet(payload: bytes) -> bytes:
    """A packet of SSH that is not encrypted (RFC 4253, 6)."""
    padding = 4 + -(9 + len(payload)) % 8
    return pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def _requests() -> Iterator[bytes]:
    """Requests of about 1 KB, each for another path and from another client."""
    for number in itertools.count():
        headers = [
            b"Host: www.example.test",
            b"User-Agent: Client/%d" % number,
            *(b"X-Header-%d-%d: %s" % (at, number, b"v" * 20) for at in range(20)),
        ]
        yield b"\r\n".join((b"GET /path/%d HTTP/1.1" % number, *headers, b"", b""))


def _garbage() -> Iterator[bytes]:
    source = random.Random(5)
    while True:
        # What begins like a record of TLS is another flood.
        yield b"\x01" + source.randbytes(_GARBAGE_BYTES - 1)


_KINDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "SSH heads, each a new one": _banners,
    "HTTP heads, each a new one": _requests,
    "first bytes of garbage": _garbage,
}
