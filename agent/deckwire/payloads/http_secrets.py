"""Where credentials are in the bytes of HTTP: headers, the target, forms and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from deckwire.payloads.finding import (
    CLIENT,
    SERVER,
    Finding,
    Kind,
    Line,
    Piece,
    Secret,
    lines,
    login,
)
from deckwire.payloads.sip import authorization

_HEADER = re.compile(rb"([\w-]+)[ \t]*:[ \t]*(.*)", re.DOTALL)
_AUTHORIZATION = (b"authorization", b"proxy-authorization")
_WHOLE = re.compile(rb"(?:set-)?cookie2?|.*(?:token|secret|api-?key|password|session).*")
"""Other headers whose whole value is a credential."""
_PART = rb"[\w.\[\]-]{0,40}"
_NAME = (
    _PART
    + rb"(?:pass|pwd|user|login|log|email|token|secret|api_?key|auth|session|cred|otp|pin)"
    + _PART
)
"""Of a field whose value is a credential, or may be one."""
_FORM = re.compile(rb"(?:^|[?&;\r\n])" + _NAME + rb"=([^&;\s\"'<>]*)", re.IGNORECASE)
_JSON = re.compile(rb'"' + _NAME + rb'"\s*:\s*(?:"((?:[^"\\]|\\.)*)"?|([\w.-]+))', re.IGNORECASE)
_MULTIPART = re.compile(
    rb'name="?' + _NAME + rb'"?[^\r\n]{0,99}(?:\r?\n[^\r\n]{1,99}){0,3}\r?\n\r?\n([^\r\n]*)',
    re.IGNORECASE,
)
_IN_URL = re.compile(rb"[a-z][a-z0-9+.-]{1,15}://([^/\s@]{1,255})@", re.IGNORECASE)


def read_http(client: bytes, server: bytes) -> Finding:
    """Find the credentials of a request, and the cookies of its answer. It has no fields."""
    secrets = [*login(_headers(client)).secrets]
    secrets += [Secret(CLIENT, start, end) for start, end in places(client)]
    secrets += [Secret(SERVER, start, end) for _, _, start, end in _headers(server)]
    return Finding(secrets=tuple(secrets))


def places(data: bytes) -> list[tuple[int, int]]:
    """Where credentials are in a target or a body, or in bytes that have them."""
    found = [
        match.span(match.lastindex or 1)
        for pattern in (_FORM, _JSON, _MULTIPART, _IN_URL)
        for match in pattern.finditer(data)
    ]
    return [(start, end) for start, end in found if start < end]


def header_values(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """The credentials that headers have, as they were sent and as they were meant."""
    values: set[bytes] = set()
    for name, value in headers:
        for piece in _value(name.strip().lower(), Line(value, 0, is_whole=True), 0):
            values.add(value[piece.start : piece.end])
            if piece.value is not None:
                values.add(piece.value)
    return values - {b""}


def _headers(data: bytes) -> Iterator[Piece]:
    is_secret = False
    for line in lines(data):
        if is_secret and line.text[:1] in (b" ", b"\t"):
            # The value goes on (RFC 9112, 5.2).
            yield Piece(Kind.SECRET, None, line.start, line.end)
            continue
        is_secret = False
        header = _HEADER.match(line.text)
        if header is not None:
            for piece in _value(header[1].lower(), line, header.start(2)):
                is_secret = True
                yield piece


def _value(name: bytes, line: Line, at: int) -> Iterator[Piece]:
    """The credentials in the value of a header, which begins at `at` of its line."""
    if name in _AUTHORIZATION:
        yield from authorization(line, at)
    elif _WHOLE.fullmatch(name):
        yield Piece(Kind.SECRET, None, line.start + at, line.end)
