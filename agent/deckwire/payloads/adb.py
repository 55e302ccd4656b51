"""Android's debug bridge: the services that a client opens (protocol.txt of adb)."""

from __future__ import annotations

from contextlib import suppress

from deckwire.limits import PAYLOAD_LIST
from deckwire.payloads.cursor import Cursor, Cut
from deckwire.payloads.finding import Field, Finding, shown

_HEADER_REST = 8
"""Bytes of a header after its length: checksum and magic."""


def read_adb(client: bytes, _server: bytes) -> Finding:
    """Read the client's banner and the names of services, such as ``shell:id``."""
    fields: list[Field] = []
    services: list[str] = []
    cursor = Cursor(client)
    with suppress(Cut):
        while len(services) < PAYLOAD_LIST:
            command = cursor.take(4)
            cursor.take(8)
            size = cursor.number(4, "little")
            cursor.take(_HEADER_REST)
            text = client[cursor.at : cursor.at + size].rstrip(b"\0")
            if command == b"CNXN" and text and not fields:
                fields.append(("adb_banner", shown(text)))
            elif command == b"OPEN" and text:
                services.append(shown(text))
            cursor.take(size)
    if services:
        fields.append(("adb_services", tuple(services)))
    return Finding(tuple(fields))
