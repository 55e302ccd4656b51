"""What the first bytes of a connection show, and where credentials are in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import NamedTuple

from deckwire.limits import PAYLOAD_FIELD

Value = str | int | bool | tuple[str, ...]
Field = tuple[str, Value]
"""Name of an event's field, and its value. Text may be hostile."""

CLIENT, SERVER = 0, 1
"""The end that opened the connection, and the other one."""
LOGIN_USER, LOGIN_PASSWORD = "login_user", "login_password"
CREDENTIAL_FIELDS = (LOGIN_USER, LOGIN_PASSWORD)
"""Fields whose whole value is a credential."""

_LINE = re.compile(rb"([^\n]*)(\n?)")


class Secret(NamedTuple):
    """A range of bytes that are a credential, or from which one can be worked out."""

    side: int
    """CLIENT or SERVER."""
    start: int
    end: int


class Finding(NamedTuple):
    """The facts of one protocol."""

    fields: tuple[Field, ...] = ()
    secrets: tuple[Secret, ...] = ()


class Kind(Enum):
    """What a piece of a login is."""

    USER = auto()
    PASSWORD = auto()
    SECRET = auto()
    """Neither in clear text: a token, a digest, or a line that may be either."""


class Piece(NamedTuple):
    """A piece of a login in the client's bytes."""

    kind: Kind
    value: bytes | None
    """Decoded; None if it is not whole, or not to be shown."""
    start: int
    end: int


def shown(wire: bytes) -> str:
    """Bytes of a peer as text of a field. Those that are not UTF-8 become surrogates."""
    return wire[:PAYLOAD_FIELD].decode("utf-8", "surrogateescape")


def login(pieces: Iterable[Piece], *fields: Field) -> Finding:
    """The user and the password of the first attempt, how many there were, and `fields`."""
    user: bytes | None = None
    password: bytes | None = None
    attempts = 0
    secrets = []
    for kind, value, start, end in pieces:
        secrets.append(Secret(CLIENT, start, end))
        if kind is Kind.PASSWORD:
            attempts += 1
            if attempts == 1:
                password = value
        elif kind is Kind.USER and (user is None or not attempts):
            user = value
    found: list[Field] = []
    if user is not None:
        found.append((LOGIN_USER, shown(user)))
    if password is not None:
        found.append((LOGIN_PASSWORD, shown(password)))
    if attempts > 1:
        found.append(("login_attempts", attempts))
    return Finding((*found, *fields), tuple(secrets))


class Line(NamedTuple):
    """A line without its end."""

    text: bytes
    start: int
    is_whole: bool
    """Its end was seen."""

    @property
    def end(self) -> int:
        """Offset of the byte after its text."""
        return self.start + len(self.text)


def lines(data: bytes) -> Iterator[Line]:
    """The lines of `data`, also one without its end."""
    for found in _LINE.finditer(data):
        text, newline = found.groups()
        if text or newline:
            yield Line(text.removesuffix(b"\r"), found.start(), bool(newline))
