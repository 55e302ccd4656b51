"""MQTT: what a client connects with (MQTT 3.1.1, 3.1; MQTT 5, 3.1)."""

from __future__ import annotations

from contextlib import suppress

from deckwire.payloads.cursor import Cursor, Cut
from deckwire.payloads.finding import Field, Finding, Kind, Piece, login, shown

_VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5"}
_USER, _PASSWORD, _WILL = 0x80, 0x40, 0x04
_LENGTH_BYTES = 4


def read_mqtt(client: bytes, _server: bytes) -> Finding:
    """Read CONNECT, as far as it goes."""
    fields: list[Field] = []
    pieces: list[Piece] = []
    with suppress(Cut):
        _connect(Cursor(client, 1), fields, pieces)
    return login(pieces, *fields)


def _connect(cursor: Cursor, fields: list[Field], pieces: list[Piece]) -> None:
    _variable(cursor)
    cursor.take(cursor.number(2))
    version, flags = cursor.number(1), cursor.number(1)
    fields.append(("mqtt_version", _VERSIONS.get(version, str(version))))
    cursor.take(2)
    if version == 5:
        cursor.take(_variable(cursor))
    name = cursor.take(cursor.number(2))
    if name:
        fields.append(("mqtt_client_id", shown(name)))
    if flags & _WILL:
        if version == 5:
            cursor.take(_variable(cursor))
        cursor.take(cursor.number(2))
        cursor.take(cursor.number(2))
    for flag, kind in ((_USER, Kind.USER), (_PASSWORD, Kind.PASSWORD)):
        if flags & flag:
            pieces.append(cursor.piece(kind, cursor.number(2)))


def _variable(cursor: Cursor) -> int:
    """A number in up to four bytes with seven bits each (MQTT 5, 1.5.5)."""
    value = 0
    for n in range(_LENGTH_BYTES):
        byte = cursor.number(1)
        value |= (byte & 0x7F) << 7 * n
        if byte < 0x80:
            break
    return value
