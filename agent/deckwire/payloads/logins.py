"""Logins in lines: USER and PASS, IMAP's LOGIN, and mechanisms of SASL (RFC 4422)."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator

from deckwire.payloads.finding import Field, Finding, Kind, Piece, lines, login, shown

_COMMAND = re.compile(rb"(USER|PASS|ACCT|APOP|AUTH)[ \t]+(.*)", re.IGNORECASE | re.DOTALL)
_IRC = re.compile(rb"(NICK|PASS)[ \t]+:?(.*)", re.IGNORECASE | re.DOTALL)
_IMAP = re.compile(rb"\S+[ \t]+(LOGIN|AUTHENTICATE)[ \t]+(.*)", re.IGNORECASE | re.DOTALL)
_XMPP = re.compile(rb"<auth\b[^>]*\bmechanism=['\"]([\w-]+)['\"][^>]*>([^<]*)", re.IGNORECASE)
_WORD = re.compile(
    rb'[ \t]*(?:"((?:[^"\\\r\n]|\\.)*)"|\{(\d{1,4})\+?\}\r?\n|([^\s"{]+))', re.DOTALL
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_MECHANISM = re.compile(rb"([\w-]+)[ \t]*(.*)", re.DOTALL)
_NEXT_COMMAND = re.compile(
    rb"(?:\S+ )?(?:QUIT|RSET|EHLO|HELO|MAIL|NOOP|STARTTLS|STLS|AUTH|AUTHENTICATE|LOGIN|LOGOUT|CAPA"
    rb"|CAPABILITY|USER|PASS|LIST|STAT)\b",
    re.IGNORECASE,
)
"""Begins a line that answers no challenge: the server has refused the mechanism."""
_NO_MECHANISMS = (b"TLS", b"SSL", b"TLS-C", b"TLS-P")
"""What AUTH asks for in FTP (RFC 4217)."""
_ANSWERS = {b"PLAIN": 1, b"LOGIN": 2, b"CRAM-MD5": 1, b"XOAUTH2": 1, b"OAUTHBEARER": 1}
"""Lines in which a client answers the challenges of a mechanism."""
_OTHER_ANSWERS = 3


def read_commands(client: bytes, _server: bytes) -> Finding:
    """Read the commands of FTP (RFC 959), SMTP (RFC 4954) or POP3 (RFC 1939, RFC 5034)."""
    return _read(client, _COMMAND)


def read_irc(client: bytes, _server: bytes) -> Finding:
    """Read the nickname and the password of IRC (RFC 2812, 3.1)."""
    return _read(client, _IRC)


def read_imap(client: bytes, _server: bytes) -> Finding:
    """Read the commands of IMAP (RFC 9051, 6.2)."""
    return _read(client, _IMAP)


def read_xmpp(client: bytes, _server: bytes) -> Finding:
    """Read the mechanism of XMPP (RFC 6120, 6.4.2) and its first answer."""
    found = _XMPP.search(client)
    if found is None:
        return Finding()
    mechanism, token = found[1].upper(), found[2]
    is_whole = found.end(2) < len(client)
    pieces = _answer(mechanism, 0, token, found.start(2), is_whole=is_whole) if token else ()
    return login(pieces, ("login_method", shown(mechanism.lower())))


def _read(client: bytes, command: re.Pattern[bytes]) -> Finding:
    pieces: list[Piece] = []
    methods: list[Field] = []
    mechanism, step, left = b"", 0, 0
    for line in lines(client):
        if left and line.text != b"*" and not _NEXT_COMMAND.match(line.text):
            pieces += _answer(mechanism, step, line.text, line.start, is_whole=line.is_whole)
            step, left = step + 1, left - 1
            continue
        left = 0
        found = command.match(line.text)
        if found is None:
            continue
        name, rest, at = found[1].upper(), found[2], line.start + found.start(2)
        if name == b"LOGIN":
            pieces += _words(client, at, line.end)
        elif name in (b"AUTH", b"AUTHENTICATE"):
            method = _MECHANISM.match(rest)
            if method is None or rest.upper() in _NO_MECHANISMS:
                continue
            mechanism, step = method[1].upper(), 0
            left = _ANSWERS.get(mechanism, _OTHER_ANSWERS)
            methods.append(("login_method", shown(mechanism.lower())))
            if method[2]:
                first = at + method.start(2)
                pieces += _answer(mechanism, 0, method[2], first, is_whole=line.is_whole)
                step, left = 1, left - 1
        elif name == b"APOP":
            user, _, digest = rest.partition(b" ")
            pieces.append(Piece(Kind.USER, user if digest else None, at, at + len(user)))
            pieces.append(Piece(Kind.SECRET, None, line.end - len(digest), line.end))
        else:
            kind = Kind.USER if name in (b"USER", b"NICK") else Kind.PASSWORD
            pieces.append(Piece(kind, rest if line.is_whole else None, at, line.end))
    return login(pieces, *methods[:1])


def _answer(
    mechanism: bytes, step: int, token: bytes, at: int, *, is_whole: bool
) -> Iterator[Piece]:
    """The pieces of a token in base64, the client's answer number `step`."""
    end = at + len(token)
    plain = _decoded(token) if is_whole else None
    if plain is not None and mechanism == b"PLAIN" and plain.count(b"\0") == 2:
        _, user, password = plain.split(b"\0")
        yield Piece(Kind.USER, user, at, end)
        yield Piece(Kind.PASSWORD, password, at, end)
    elif mechanism == b"LOGIN" and step < 2:
        yield Piece((Kind.USER, Kind.PASSWORD)[step], plain, at, end)
    elif plain is not None and mechanism == b"CRAM-MD5":
        yield Piece(Kind.USER, plain.rpartition(b" ")[0], at, end)
    else:
        yield Piece(Kind.SECRET, None, at, end)


def _decoded(token: bytes) -> bytes | None:
    try:
        return b64decode(token, validate=True)
    except Error:
        return None


def _words(client: bytes, at: int, line_end: int) -> Iterator[Piece]:
    """User and password of IMAP's LOGIN: atoms, quoted strings or literals."""
    for kind in (Kind.USER, Kind.PASSWORD):
        found = _WORD.match(client, at)
        if found is None:
            # What was cut is a credential all the same.
            if at < line_end:
                yield Piece(Kind.SECRET, None, at, line_end)
            return
        quoted, length, atom = found.groups()
        if length is not None:
            start, end = found.end(), found.end() + int(length)
            value = client[start:end] if end <= len(client) else None
        elif quoted is not None:
            start, end = found.span(1)
            value = _ESCAPED.sub(rb"\1", quoted)
        else:
            start, end = found.span(3)
            value = atom if end < len(client) else None
        at = end + (quoted is not None)
        yield Piece(kind, value, start, min(end, len(client)))
