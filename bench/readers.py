"""The CPU time of the readers of first bytes: both ends of SSH, and one HTTP request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bench import cpu
from bench.figures import Goal, Line, Spread, ratio
from deckwire.http.reader import RequestReader
from deckwire.ssh.reader import Outcome, Reader
from tests.support.ssh_wire import ECDH_INIT, ECDH_REPLY, kexinit, packet

SECTION = "readers"
_AT_ONCE = 200

_CIPHERS = (
    b"chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,"
    b"aes128-gcm@openssh.com,aes256-gcm@openssh.com"
)
_MACS = (
    b"umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,"
    b"hmac-sha2-512-etm@openssh.com,hmac-sha1-etm@openssh.com,umac-64@openssh.com,"
    b"umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1"
)
_COMPRESSIONS = b"none,zlib@openssh.com"
_KEX = (
    b"sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,"
    b"ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,"
    b"diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,"
    b"diffie-hellman-group18-sha512,diffie-hellman-group14-sha256"
)
_CLIENT_KEYS = (
    b"ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com,"
    b"ecdsa-sha2-nistp384-cert-v01@openssh.com,ecdsa-sha2-nistp521-cert-v01@openssh.com,"
    b"sk-ssh-ed25519-cert-v01@openssh.com,sk-ecdsa-sha2-nistp256-cert-v01@openssh.com,"
    b"rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com,ssh-ed25519,"
    b"ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
    b"sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256"
)
_SERVER_KEYS = b"rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256,ssh-ed25519"
_SAME = (_CIPHERS, _CIPHERS, _MACS, _MACS, _COMPRESSIONS, _COMPRESSIONS, b"", b"")
_BANNER = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"
_SSH = (
    _BANNER
    + packet(kexinit((_KEX + b",ext-info-c,kex-strict-c-v00@openssh.com", _CLIENT_KEYS, *_SAME)))
    + packet(bytes([ECDH_INIT]) + bytes(1_200)),
    _BANNER
    + packet(kexinit((_KEX + b",kex-strict-s-v00@openssh.com", _SERVER_KEYS, *_SAME)))
    + packet(bytes([ECDH_REPLY]) + bytes(1_300)),
)
"""What OpenSSH 9.2 sends first, as client and as server."""
_HTTP = b"\r\n".join(
    (
        b"GET /login?next=%2Fadmin HTTP/1.1",
        b"Host: 198.51.100.7",
        b"Connection: keep-alive",
        b"Cache-Control: max-age=0",
        b"Upgrade-Insecure-Requests: 1",
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        b"Chrome/124.0.0.0 Safari/537.36",
        b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,"
        b"image/webp,*/*;q=0.8",
        b"Referer: http://198.51.100.7/",
        b"Accept-Encoding: gzip, deflate",
        b"Accept-Language: en-US,en;q=0.9",
        b"Cookie: session=0123456789abcdef; theme=dark",
        b"",
        b"",
    )
)
"""What a browser sends first."""


def measure(rounds: int) -> list[Line]:
    """Read the same first bytes again and again. The readers take turns, pinned to one CPU."""
    works: dict[str, tuple[Callable[[], None], float]] = {
        "SSH, banners and KEXINITs of both ends": (_read_ssh, 30),
        "HTTP, one request": (_read_http, 40),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    # Before any time is taken, or the first round would pay for what is made once.
    for work, _ in works.values():
        work()
    cpu.pin(0, cpu.CLIENTS)
    try:
        for _ in range(rounds):
            for name, (work, _) in works.items():
                found[name].append(_microseconds(work))
    finally:
        cpu.pin(0, cpu.ALL)
    return [
        _line(name, found[name], goal, sum(map(len, read)))
        for (name, (_, goal)), read in zip(works.items(), (_SSH, (_HTTP,)), strict=True)
    ]


def _read_ssh() -> None:
    for wire in _SSH:
        reader = Reader()
        assert reader.feed(wire) is Outcome.DONE
        assert reader.kexinit is not None


def _read_http() -> None:
    (request,) = RequestReader().feed(_HTTP)
    assert len(request.headers.fields) == 10


def _microseconds(work: Callable[[], None]) -> float:
    started = time.thread_time_ns()
    for _ in range(_AT_ONCE):
        work()
    return (time.thread_time_ns() - started) / 1_000 / _AT_ONCE


def _line(name: str, times: Sequence[float], goal: float, length: int) -> Line:
    spread = Spread.of(times)
    return Line(
        SECTION,
        f"CPU time: {name}",
        spread,
        "µs",
        f"fastest round {spread.low:.1f} µs",
        spread.low,
        ratio(spread.median, spread.low),
        Goal("≤", goal),
        note=f"{length:,} bytes",
    )
