"""Redis: commands as arrays of RESP, and inline ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from deckwire.limits import PAYLOAD_LIST
from deckwire.payloads.finding import Finding, Kind, Piece, login, shown

_ARRAY = re.compile(rb"\*(\d{1,3})\r?\n")
_BULK = re.compile(rb"\$(\d{1,9})\r?\n")
_WORD = re.compile(rb"[^ \t\r\n]+")
_NEWLINE = re.compile(rb"\r?\n")
_SECRET_SETTINGS = (b"requirepass", b"masterauth", b"masteruser")


class _Word(NamedTuple):
    text: bytes
    start: int
    is_whole: bool

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def read_redis(client: bytes, _server: bytes) -> Finding:
    """Read the client's commands, and the credentials in AUTH, HELLO and CONFIG SET."""
    names: list[str] = []
    pieces: list[Piece] = []
    for words in _commands(client):
        names.append(shown(b" ".join(word.text for word in words)))
        pieces += _credentials(words)
    fields = [("redis_commands", tuple(names[:PAYLOAD_LIST]))] if names else []
    return login(pieces, *fields)


def _commands(client: bytes) -> Iterator[list[_Word]]:
    at = 0
    while at < len(client):
        found = _ARRAY.match(client, at)
        if found is None:
            words, at = _inline(client, at)
        else:
            words, at = _array(client, found.end(), int(found[1]))
        if words:
            yield words


def _array(client: bytes, at: int, count: int) -> tuple[list[_Word], int]:
    """The words of an array at `at`, and the offset after it. What is malformed ends the bytes."""
    words: list[_Word] = []
    for _ in range(count):
        found = _BULK.match(client, at)
        if found is None:
            return words, len(client)
        start, end = found.end(), found.end() + int(found[1])
        words.append(_Word(client[start:end], start, end <= len(client)))
        newline = _NEWLINE.match(client, end)
        if newline is None:
            return words, len(client)
        at = newline.end()
    return words, at


def _inline(client: bytes, at: int) -> tuple[list[_Word], int]:
    newline = client.find(b"\n", at)
    end = newline if newline >= 0 else len(client)
    words = [
        _Word(found[0], found.start(), newline >= 0 or found.end() < end)
        for found in _WORD.finditer(client, at, end)
    ]
    return words, end + 1


def _credentials(words: list[_Word]) -> Iterator[Piece]:
    upper = [word.text.upper() for word in words[:4]]
    if upper[0] == b"HELLO" and b"AUTH" in upper:
        yield from _pair(words[upper.index(b"AUTH") + 1 :][:2])
    elif upper[0] == b"AUTH":
        yield from _pair(words[1:3])
    elif upper[:2] == [b"CONFIG", b"SET"]:
        for name, value in zip(words[2::2], words[3::2], strict=False):
            if name.text.lower() in _SECRET_SETTINGS:
                yield Piece(Kind.SECRET, None, value.start, value.end)
    elif upper[:2] == [b"ACL", b"SETUSER"]:
        for word in words[3:]:
            if word.text[:1] in (b">", b"#", b"<", b"!"):
                yield Piece(Kind.SECRET, None, word.start, word.end)


def _pair(words: list[_Word]) -> Iterator[Piece]:
    """A password, or a user and a password."""
    for number, word in enumerate(words):
        kind = Kind.PASSWORD if number == len(words) - 1 else Kind.USER
        yield Piece(kind, word.text if word.is_whole else None, word.start, word.end)
