"""Heads of requests and answers (RFC 9112, 3 to 5), read as leniently as servers read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from deckwire.limits import HTTP_LENGTH_DIGITS, HTTP_METHOD_BYTES

Header = tuple[bytes, bytes]
"""Name as it was sent, and value without white space around it."""

SIMPLE_VERSION = "0.9"
"""Of requests whose line has no version."""
_MARK = b" HTTP/"
_VERSION = re.compile(rb"\d\.\d")
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d[ \t]+(\d{3})(?:[ \t]|$)")
_BLANK = b" \t"
_SOCKS = re.compile(rb"[\x04\x05].*\0", re.DOTALL)
"""Begins a request for a proxy, with its version (RFC 1928, 3)."""
_BLANKS = frozenset([b" ", b"\t"])


class RequestLine(NamedTuple):
    """The first line of a request."""

    method: bytes
    target: bytes
    """As it was sent: a path, a URL, an authority or ``*``."""
    version: str
    """Such as ``1.1``; ``0.9`` if the line has none."""


class Headers:
    """Header fields in the order in which they were sent."""

    __slots__ = ("_named", "fields")

    def __init__(self, fields: Iterable[Header] = ()) -> None:
        self.fields = tuple(fields)
        named: dict[bytes, list[bytes]] = {}
        for name, value in self.fields:
            named.setdefault(name.rstrip().lower(), []).append(value)
        self._named = named

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.fields)

    def __iter__(self) -> Iterator[Header]:
        return iter(self.fields)

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of this name, which is in lower case; None without one."""
        values = self._named.get(name)
        return values[0] if values else None

    def all(self, name: bytes) -> list[bytes]:
        """The values of all fields of this name, which is in lower case."""
        return self._named.get(name, [])

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks (RFC 9112, 6.1)."""
        values = self.all(b"transfer-encoding")
        if not values:
            return False
        codings = b",".join(values).lower().split(b",")
        return codings[-1].strip(_BLANK) == b"chunked"

    @property
    def length(self) -> int | None:
        """Content-Length; None without one, or if it is no number or several."""
        values = {
            value.strip(_BLANK) for value in b",".join(self.all(b"content-length")).split(b",")
        }
        if len(values) != 1:
            return None
        (text,) = values
        return int(text) if text.isdigit() and len(text) <= HTTP_LENGTH_DIGITS else None


def parse_request_line(line: bytes) -> RequestLine | None:
    """The parts of a line without its end; None if it begins no request of HTTP/1.

    The method may be anything but bytes of SOCKS before a request. A target may have blanks. A line
    without a version is one of HTTP/0.9 if it gets a path.
    """
    line = line.replace(b"\t", b" ").strip(b" ")
    method, _, rest = line.partition(b" ")
    target, mark, version = rest.rpartition(_MARK)
    if not mark:
        target = rest.strip(b" ")
        is_simple = method == b"GET" and target.startswith(b"/") and b" " not in target
        return RequestLine(method, target, SIMPLE_VERSION) if is_simple else None
    target = target.strip(b" ")
    if not method or len(method) > HTTP_METHOD_BYTES or not target or _SOCKS.match(method):
        return None
    if not _VERSION.fullmatch(version) or (method == b"PRI" and version == b"2.0"):
        # The second is the preface of HTTP/2 (RFC 9113, 3.4).
        return None
    return RequestLine(method, target, version.decode())


def parse_status(line: bytes) -> int | None:
    """The code of a status line without its end; None if it begins no answer of HTTP/1."""
    found = _STATUS_LINE.match(line)
    return int(found[1]) if found is not None else None


def parse_headers(lines: list[bytes]) -> Headers:
    """The fields of a head's lines after the first one.

    A line that begins with a blank continues the value before it. A line without a colon is left
    out.
    """
    fields: list[Header] = []
    for line in lines:
        if line[:1] in _BLANKS:
            if fields:
                name, value = fields[-1]
                fields[-1] = name, value + b" " + line.strip(_BLANK)
            continue
        name, colon, value = line.partition(b":")
        if colon and name:
            fields.append((name, value.strip(_BLANK)))
    return Headers(fields)
