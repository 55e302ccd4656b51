"""PostgreSQL and MySQL: who logs in to which database."""

from __future__ import annotations

from collections.abc import Iterator

from deckwire.payloads.finding import Field, Finding, Kind, Piece, login, shown

# --- PostgreSQL (protocol 3.0, "Message Formats") ---

_CANCEL, _SSL, _GSS = 80_877_102, 80_877_103, 80_877_104
_REQUESTS = {_CANCEL: "cancel", _SSL: "ssl", _GSS: "gss"}
_METHODS = {3: "password", 5: "md5", 10: "sasl"}
_PARAMETERS = {b"database": "database", b"application_name": "application"}


def read_postgres(client: bytes, server: bytes) -> Finding:
    """Read the requests before a start, the start's parameters, and the answers to challenges."""
    fields: list[Field] = []
    pieces: list[Piece] = []
    at = 0
    while at + 8 <= len(client):
        length, code = int.from_bytes(client[at : at + 4]), int.from_bytes(client[at + 4 : at + 8])
        if code in _REQUESTS:
            if not fields:
                fields.append(("postgres_request", _REQUESTS[code]))
            at += max(length, 8)
        elif code >> 16 == 3 and length >= 8:
            pieces += _start(client, at + 8, at + length, fields)
            at += length
            break
        else:
            break
    method = _postgres_method(server)
    if method:
        fields.append(("login_method", method))
    pieces += _answers(client, at, is_clear=method == "password")
    return login(pieces, *fields)


def _start(client: bytes, at: int, end: int, fields: list[Field]) -> Iterator[Piece]:
    while at < min(end, len(client)):
        name_end = client.find(b"\0", at, end)
        value_end = client.find(b"\0", name_end + 1, end) if name_end > at else -1
        name, start = client[at:name_end], name_end + 1
        if name_end <= at:
            return
        is_whole = value_end >= 0
        if not is_whole:
            value_end = min(end, len(client))
        value = client[start:value_end]
        if name == b"user":
            yield Piece(Kind.USER, value if is_whole else None, start, value_end)
        elif name in _PARAMETERS and is_whole:
            fields.append((_PARAMETERS[name], shown(value)))
        at = value_end + 1


def _postgres_method(server: bytes) -> str:
    """How the server wants the client to log in; "" if it does not say."""
    if server[:1] in (b"S", b"N", b"G"):
        server = server[1:]
    if server[:1] != b"R" or len(server) < 9:
        return ""
    return _METHODS.get(int.from_bytes(server[5:9]), "")


def _answers(client: bytes, at: int, *, is_clear: bool) -> Iterator[Piece]:
    while client[at : at + 1] == b"p" and at + 5 < len(client):
        length = max(int.from_bytes(client[at + 1 : at + 5]), 4)
        start, end = at + 5, min(at + 1 + length, len(client))
        whole = client[start:end]
        if is_clear and whole.endswith(b"\0"):
            yield Piece(Kind.PASSWORD, whole[:-1], start, end - 1)
        else:
            yield Piece(Kind.SECRET, None, start, end)
        at += 1 + length


# --- MySQL (protocol 10, "Connection Phase") ---

_WITH_DATABASE, _PROTOCOL_41, _TLS = 0x8, 0x200, 0x800
_PLUGIN_AUTH, _LENGTHS_ENCODED = 0x8_0000, 0x20_0000
_ANSWER_41_BYTES = 32
_CLEAR = b"mysql_clear_password"


def read_mysql(client: bytes, server: bytes) -> Finding:
    """Read the server's version, and the client's answer to its greeting."""
    fields: list[Field] = []
    version, end, _ = server[5:].partition(b"\0")
    if end and server[4:5] == b"\x0a":
        fields.append(("mysql_version", shown(version)))
    length = int.from_bytes(client[:3], "little")
    packet = client[: 4 + length]
    flags = int.from_bytes(packet[4:8], "little")
    if length <= _ANSWER_41_BYTES or not flags & _PROTOCOL_41 or flags & _TLS:
        # Of a TLS connection, it has no user.
        return login((), *fields)
    pieces = list(_answer_41(packet, flags, fields))
    rest = 4 + length
    if rest < len(client):
        # The answer to a request for another method.
        pieces.append(Piece(Kind.SECRET, None, min(rest + 4, len(client)), len(client)))
    return login(pieces, *fields)


def _answer_41(packet: bytes, flags: int, fields: list[Field]) -> Iterator[Piece]:
    start = 4 + _ANSWER_41_BYTES
    end = packet.find(b"\0", start)
    if end < 0:
        if start < len(packet):
            yield Piece(Kind.USER, None, start, len(packet))
        return
    yield Piece(Kind.USER, packet[start:end], start, end)
    at = end + 1
    size = packet[at] if at < len(packet) else 0
    # Answers longer than 250 bytes have a length of three bytes, or more.
    if flags & _LENGTHS_ENCODED and size == 0xFC:
        size, at = int.from_bytes(packet[at + 1 : at + 3], "little"), at + 2
    first, last = at + 1, min(at + 1 + size, len(packet))
    at += 1 + size
    plugin = b""
    if flags & _WITH_DATABASE:
        database, end_found, _ = packet[at:].partition(b"\0")
        if end_found and database:
            fields.append(("database", shown(database)))
        at += len(database) + 1
    if flags & _PLUGIN_AUTH:
        plugin, end_found, _ = packet[at:].partition(b"\0")
        if end_found and plugin:
            fields.append(("login_method", shown(plugin)))
    if first < last:
        if plugin == _CLEAR:
            yield Piece(Kind.PASSWORD, packet[first:last].rstrip(b"\0"), first, last)
        else:
            yield Piece(Kind.SECRET, None, first, last)
