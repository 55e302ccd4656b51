"""SOCKS: where a client wants to be connected to (SOCKS4a; RFC 1928, RFC 1929)."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

from deckwire.payloads.cursor import Cursor, Cut
from deckwire.payloads.finding import Field, Finding, Kind, Piece, login, shown

_COMMANDS = {1: "connect", 2: "bind", 3: "udp_associate"}
_NAME = 3
_ADDRESS_BYTES = {1: 4, 4: 16}


def read_socks4(client: bytes, _server: bytes) -> Finding:
    """Read the request."""
    fields: list[Field] = []
    pieces: list[Piece] = []
    with suppress(Cut):
        cursor = Cursor(client, 1)
        fields.append(("socks_command", _command(cursor)))
        port, address = cursor.number(2), cursor.take(4)
        start = cursor.at
        user = cursor.until_nul()
        if user:
            pieces.append(Piece(Kind.USER, user, start, start + len(user)))
        # An address that cannot be: a name follows (SOCKS4a).
        named = address[:3] == bytes(3) and address[3]
        host = shown(cursor.until_nul()) if named else str(ip_address(address))
        fields.append(("socks_target", f"{host}:{port}"))
    return login(pieces, *fields)


def read_socks5(client: bytes, _server: bytes) -> Finding:
    """Read the login, if there is one, and the request."""
    fields: list[Field] = []
    pieces: list[Piece] = []
    with suppress(Cut):
        cursor = Cursor(client, 1)
        cursor.take(cursor.number(1))
        version = cursor.number(1)
        if version == 1:
            for kind in (Kind.USER, Kind.PASSWORD):
                pieces.append(cursor.piece(kind, cursor.number(1)))
            version = cursor.number(1)
        if version == 5:
            _request(cursor, fields)
    return login(pieces, *fields)


def _request(cursor: Cursor, fields: list[Field]) -> None:
    fields.append(("socks_command", _command(cursor)))
    cursor.take(1)
    kind = cursor.number(1)
    if kind == _NAME:
        host = shown(cursor.take(cursor.number(1)))
    elif kind in _ADDRESS_BYTES:
        address = str(ip_address(cursor.take(_ADDRESS_BYTES[kind])))
        host = f"[{address}]" if ":" in address else address
    else:
        return
    fields.append(("socks_target", f"{host}:{cursor.number(2)}"))


def _command(cursor: Cursor) -> str:
    number = cursor.number(1)
    return _COMMANDS.get(number, str(number))
