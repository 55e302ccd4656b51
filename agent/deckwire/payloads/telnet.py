"""Telnet (RFC 854): the options that a client asks for, and the lines that answer prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deckwire.limits import PAYLOAD_LIST
from deckwire.payloads.finding import Finding, Kind, Piece, login, shown

_COMMAND = re.compile(
    rb"\xff(?:([\xfb-\xfe])([\x00-\xff])|\xfa(.)((?:[^\xff]|\xff[^\xf0])*)\xff\xf0"
    rb"|[\xf1-\xf9]|(\xff)|[\xfa-\xfe].*$|$)",
    re.DOTALL,
)
"""An option, a subnegotiation, another command, a data byte 255, and what was cut."""
_VERBS = {0xFB: "WILL", 0xFC: "WONT", 0xFD: "DO", 0xFE: "DONT"}
_TERMINAL_TYPE, _IS = b"\x18", b"\0"
_PROMPT = re.compile(
    rb"(?<!last )(?:(login|user ?name|user|account)|(password|passcode))[ \t]*:", re.IGNORECASE
)
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\r\0|\r|\n|$)")
_BLIND_LINES = 2
"""The first lines may be a login even if no prompt for a password was seen."""


def read_telnet(client: bytes, server: bytes) -> Finding:
    """Read both ends: the server's prompts, in their order, show what the client's lines are."""
    options: list[str] = []
    terminal = ""
    text = bytearray()
    places: list[int] = []
    at = 0
    for found in _COMMAND.finditer(client):
        text += client[at : found.start()]
        places += range(at, found.start())
        at = found.end()
        verb, option, kind, body, data = found.groups()
        if verb is not None:
            options.append(f"{_VERBS[verb[0]]} {option[0]}")
        elif kind == _TERMINAL_TYPE and body[:1] == _IS:
            terminal = shown(body[1:])
        elif data is not None:
            text += data
            places.append(at - 1)
    text += client[at:]
    places += range(at, len(client) + 1)
    kinds = [
        Kind.USER if found[1] is not None else Kind.PASSWORD
        for found in _PROMPT.finditer(_COMMAND.sub(b"", server))
    ]
    fields: list[tuple[str, str | tuple[str, ...]]] = []
    if options:
        fields.append(("telnet_options", tuple(options[:PAYLOAD_LIST])))
    if terminal:
        fields.append(("telnet_terminal", terminal))
    return login(_pieces(bytes(text), places, kinds), *fields)


def _pieces(text: bytes, places: list[int], kinds: list[Kind]) -> Iterator[Piece]:
    """The lines as pieces of a login. `places` are the offsets of the bytes of `text`."""
    blind = Kind.PASSWORD not in kinds
    for number, found in enumerate(_LINE.finditer(text)):
        line, end = found.groups()
        kind = kinds[number] if number < len(kinds) else None
        if kind is None and blind and number < _BLIND_LINES:
            kind = Kind.SECRET
        # An empty line may be a password, but no user.
        if kind is None or (not line and (kind is not Kind.PASSWORD or not end)):
            continue
        value = line if end and kind is not Kind.SECRET else None
        first, last = found.span(1)
        yield Piece(kind, value, places[first], places[last - 1] + 1 if line else places[first])
