"""Where credentials are in the bytes of HTTP: headers, the target, forms and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deckwire.payloads.finding import CLIENT, SERVER, Finding, Kind, Line, Piece, Secret, lines
from deckwire.payloads.finding import login as login_finding
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
    found = login_finding(_headers(client))
    secrets = [*found.secrets, *_values(client)]
    secrets += [Secret(SERVER, start, end) for _, _, start, end in _headers(server)]
    return Finding(secrets=tuple(secrets))


def _headers(data: bytes) -> Iterator[Piece]:
    secret: Line | None = None
    for line in lines(data):
        if secret is not None and line.text[:1] in (b" ", b"\t"):
            # The value goes on (RFC 9112, 5.2).
            yield Piece(Kind.SECRET, None, line.start, line.end)
            continue
        secret = None
        header = _HEADER.match(line.text)
        if header is None:
            continue
        name, at = header[1].lower(), header.start(2)
        if name in _AUTHORIZATION:
            yield from authorization(line, at)
            secret = line
        elif _WHOLE.fullmatch(name):
            yield Piece(Kind.SECRET, None, line.start + at, line.end)
            secret = line


def _values(client: bytes) -> Iterator[Secret]:
    """Those in the target and the body."""
    for pattern in (_FORM, _JSON, _MULTIPART, _IN_URL):
        for found in pattern.finditer(client):
            group = found.lastindex or 1
            start, end = found.span(group)
            if start < end:
                yield Secret(CLIENT, start, end)
