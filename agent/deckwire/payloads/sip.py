"""SIP (RFC 3261) and RTSP (RFC 7826): the first request, and credentials in its headers."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator

from deckwire.payloads.finding import Field, Finding, Kind, Line, Piece, lines, login, shown

_HEADER = re.compile(rb"([\w-]+)[ \t]*:[ \t]*(.*)", re.DOTALL)
_SCHEME = re.compile(rb"(\w+)[ \t]+(.*)", re.DOTALL)
_USERNAME = re.compile(rb'\busername="([^"]*)"', re.IGNORECASE)
_CREDENTIALS = (b"authorization", b"proxy-authorization")


def read_sip(client: bytes, _server: bytes) -> Finding:
    """Read the request line, the user agent, and who logs in."""
    fields: list[Field] = []
    pieces: list[Piece] = []
    for number, line in enumerate(lines(client)):
        header = _HEADER.match(line.text)
        if number == 0:
            fields.append(("request_line", shown(line.text)))
        elif header is not None and header[1].lower() == b"user-agent" and line.is_whole:
            fields.append(("user_agent", shown(header[2])))
        elif header is not None and header[1].lower() in _CREDENTIALS:
            pieces += authorization(line, header.start(2))
    return login(pieces, *fields[:2])


def authorization(line: Line, at: int) -> Iterator[Piece]:
    """The user and the password in a header's value, which begins at `at` of its line.

    The value as a whole is a secret: a digest can be guessed, a bearer token be used.
    """
    start, end = line.start + at, line.end
    value = line.text[at:]
    scheme = _SCHEME.match(value)
    if scheme is not None and scheme[1].lower() == b"basic" and line.is_whole:
        try:
            user, colon, password = b64decode(scheme[2], validate=True).partition(b":")
        except Error:
            colon = b""
        if colon:
            yield Piece(Kind.USER, user, start, end)
            yield Piece(Kind.PASSWORD, password, start, end)
            return
    name = _USERNAME.search(value)
    if name is not None:
        yield Piece(Kind.USER, name[1], start, end)
    yield Piece(Kind.SECRET, None, start, end)
