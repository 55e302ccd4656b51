"""LDAP: what a client asks for first, and how it binds (RFC 4511, 4.2)."""

from __future__ import annotations

from contextlib import suppress

from deckwire.payloads.cursor import Cursor, Cut
from deckwire.payloads.finding import Field, Finding, Kind, Piece, login, shown

_OPERATIONS = {
    0x60: "bind",
    0x42: "unbind",
    0x63: "search",
    0x66: "modify",
    0x68: "add",
    0x4A: "delete",
    0x6C: "modify_dn",
    0x6E: "compare",
    0x50: "abandon",
    0x77: "extended",
}
_BIND = 0x60
_SIMPLE, _SASL = 0x80, 0xA3
_LENGTH_BYTES = 4
_MESSAGES = 16


def read_ldap(client: bytes, _server: bytes) -> Finding | None:
    """Read the client's messages; None if the first one is none of LDAP."""
    fields: list[Field] = []
    pieces: list[Piece] = []
    operations: list[str] = []
    cursor = Cursor(client)
    with suppress(Cut):
        while len(operations) < _MESSAGES:
            if cursor.number(1) != 0x30:
                break
            size = _length(cursor)
            end = cursor.at + size
            if cursor.number(1) != 0x02:
                break
            cursor.take(_length(cursor))
            tag = cursor.number(1)
            if tag not in _OPERATIONS:
                break
            operations.append(_OPERATIONS[tag])
            if tag == _BIND:
                _length(cursor)
                _bind(cursor, fields, pieces)
            cursor.at = end
    if not operations:
        return None
    return login(pieces, ("ldap_operations", tuple(operations)), *fields[:1])


def _bind(cursor: Cursor, fields: list[Field], pieces: list[Piece]) -> None:
    if cursor.number(1) != 0x02:
        return
    cursor.take(_length(cursor))
    if cursor.number(1) != 0x04:
        return
    size = _length(cursor)
    if size:
        pieces.append(cursor.piece(Kind.USER, size))
    tag, size = cursor.number(1), _length(cursor)
    if tag == _SIMPLE:
        fields.append(("login_method", "simple"))
        if size or pieces:
            pieces.append(cursor.piece(Kind.PASSWORD, size))
    elif tag == _SASL:
        end = cursor.at + size
        if cursor.number(1) == 0x04:
            fields.append(("login_method", shown(cursor.take(_length(cursor)).lower())))
        if cursor.at < min(end, len(cursor.data)):
            pieces.append(cursor.piece(Kind.SECRET, end - cursor.at))


def _length(cursor: Cursor) -> int:
    """A length in BER (X.690, 8.1.3); more than four bytes of it are malformed."""
    first = cursor.number(1)
    if first < 0x80:
        return first
    if first & 0x7F > _LENGTH_BYTES:
        raise Cut
    return cursor.number(first & 0x7F)
