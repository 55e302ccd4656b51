"""Requests and answers of HTTP/1 as bytes, and JA4H from its definition.

The JA4H here shares nothing with the agent.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from hashlib import sha256

HEADERS = (
    (b"Host", b"decky.example"),
    (b"User-Agent", b"curl/7.88.1"),
    (b"Accept", b"*/*"),
)
_NAMES = (
    *(b"Host", b"host", b"User-Agent", b"ACCEPT", b"Accept-Language", b"accept-language"),
    *(b"Cookie", b"cookie", b"COOKIE", b"Referer", b"referer", b"X-Odd", b"X Blank", b"\xff\xfe"),
)
_VALUES = (
    *(b"", b"a", b"en-US,en;q=0.5", b"en;q=0.8", b"de", b"zh-CN", b"*", b"b=2; a=1; a=0", b"=x"),
    *(b"a", b"a=1;;b", b"\xc3\xa4=1", b"a: b", b"x=y=z; x"),
)
_METHODS = (b"GET", b"POST", b"HEAD", b"M-SEARCH", b"X", b"OPTIONS", b"get", b"1-2", b"PROPFIND")
_VERSIONS = (b"1.1", b"1.0", b"0.9", b"2.0")


def request(
    target: bytes = b"/",
    *,
    method: bytes = b"GET",
    version: bytes = b"1.1",
    headers: Sequence[tuple[bytes, bytes]] = HEADERS,
    body: bytes = b"",
) -> bytes:
    """A request, with Content-Length if it has a body."""
    lines = [method + b" " + target + b" HTTP/" + version]
    lines += [name + b": " + value for name, value in headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def answer(status: bytes = b"200 OK", *, server: bytes = b"nginx", body: bytes = b"hi") -> bytes:
    """An answer with a length."""
    return b"HTTP/1.1 %s\r\nServer: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        *(status, server, len(body)),
        body,
    )


def expected_ja4h(method: bytes, version: bytes, headers: Sequence[tuple[bytes, bytes]]) -> str:
    """JA4H of a request, step by step as its definition has it."""
    letters = re.sub(rb"[^a-z]", b"", method.lower()).decode()
    start = (letters + "00")[:2] + version.decode().replace(".", "")
    lower = [name.lower() for name, _ in headers]
    start += ("c" if b"cookie" in lower else "n") + ("r" if b"referer" in lower else "n")
    counted = [name for name, _ in headers if name.lower() not in {b"cookie", b"referer"}]
    start += f"{min(len(counted), 99):02}"
    language = next((value for name, value in headers if name.lower() == b"accept-language"), b"")
    language = re.split(rb"[,;]", language)[0].strip().replace(b"-", b"").lower()
    start += (language.decode("utf-8", "surrogateescape") + "0000")[:4]
    cookies: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.lower() == b"cookie":
            cookies += [(one.strip().split(b"=")[0], one.strip()) for one in value.split(b";")]
    cookies = sorted(pair for pair in cookies if pair[1])

    def digest(parts: list[bytes]) -> str:
        return sha256(b",".join(parts)).hexdigest()[:12] if parts else "000000000000"

    return "_".join(
        [start, digest(counted), digest([n for n, _ in cookies]), digest([t for _, t in cookies])]
    )


def generated(dice: random.Random) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """Method, version and headers of a request, with what is hard about them."""
    headers = [
        (dice.choice(_NAMES), dice.choice(_VALUES).strip()) for _ in range(dice.randrange(12))
    ]
    if dice.random() < 0.02:
        headers += [(b"X-%d" % n, b"") for n in range(120)]
    return dice.choice(_METHODS), dice.choice(_VERSIONS), headers
