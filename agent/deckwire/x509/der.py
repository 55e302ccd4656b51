"""A reader for DER (X.690) that takes any input: no recursion, every length checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from deckwire.limits import OID_BYTES

T = TypeVar("T")

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTF8_STRING, NUMERIC_STRING, PRINTABLE_STRING, TELETEX_STRING = 0x0C, 0x12, 0x13, 0x14
IA5_STRING, UTC_TIME, GENERALIZED_TIME, VISIBLE_STRING = 0x16, 0x17, 0x18, 0x1A
UNIVERSAL_STRING, BMP_STRING = 0x1C, 0x1E
SEQUENCE, SET = 0x30, 0x31


class DerError(ValueError):
    """The bytes are not the expected DER."""


class Element(NamedTuple):
    """One tag-length-value."""

    tag: int
    """The identifier octet: class, constructed bit and number."""
    content: bytes


def context(number: int, *, constructed: bool) -> int:
    """The identifier octet of a context-specific tag."""
    return 0x80 | (0x20 if constructed else 0) | number


def read(data: bytes, at: int = 0, *, clip: bool = False) -> tuple[Element, int]:
    """The element that starts at `at`, and where the next one starts.

    With `clip`, an element that runs past the end of `data` is read up to that end.
    Raises DerError for a missing or overlong element, tag numbers above 30, and the indefinite
    length (X.690, 10.1). Lengths that are not minimal pass.
    """
    size = len(data)
    if at + 2 > size:
        raise DerError("no room for a tag and a length")
    tag, length = data[at], data[at + 1]
    at += 2
    if tag & 0x1F == 0x1F:
        raise DerError("tag number above 30")
    if length & 0x80:
        width = length & 0x7F
        if not 1 <= width <= 4 or at + width > size:
            raise DerError("length of the length is indefinite, too large, or cut")
        length = int.from_bytes(data[at : at + width], "big")
        at += width
    end = at + length
    if end > size:
        if not clip:
            raise DerError("element runs past the end")
        end = size
    return Element(tag, data[at:end]), end


def elements(data: bytes) -> Iterator[Element]:
    """The consecutive elements in `data`; DerError at the first broken one."""
    at, end = 0, len(data)
    while at < end:
        element, at = read(data, at)
        yield element


def take(items: Iterator[Element], tag: int) -> bytes:
    """Take the content of the next element; DerError if it has another tag."""
    element = next(items, None)
    if element is None or element.tag != tag:
        raise DerError(f"no element with tag {tag:#04x}")
    return element.content


def length_octets(length: int) -> bytes:
    """Encode a definite length (X.690, 10.1)."""
    if length < 0x80:
        return bytes([length])
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def element(tag: int, content: bytes) -> bytes:
    """Encode one element."""
    return bytes([tag]) + length_octets(len(content)) + content


def oid(text: str) -> bytes:
    """Encode an object identifier in dotted decimal, as content; the inverse of `dotted`."""
    first, second, *arcs = map(int, text.split("."))
    octets = bytearray()
    for arc in (40 * first + second, *arcs):
        shifts = range(7 * (max(arc.bit_length() - 1, 0) // 7), 0, -7)
        octets += bytes([0x80 | arc >> shift & 0x7F for shift in shifts]) + bytes([arc & 0x7F])
    return bytes(octets)


def dotted(oid: bytes) -> str:
    """Decode the content of an object identifier (X.690, 8.19); DerError if it is none."""
    if not 0 < len(oid) <= OID_BYTES or oid[-1] & 0x80:
        raise DerError("object identifier is empty, too long, or cut")
    arcs: list[int] = []
    value = 0
    for octet in oid:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def dotted_or_hex(oid: bytes) -> str:
    """Write an object identifier in dotted decimal, or ``#`` and its hex if it is none."""
    try:
        return dotted(oid)
    except DerError:
        return f"#{oid.hex()}"


def until_error(items: Iterator[T], limit: int) -> tuple[list[T], bool]:
    """The items before the first broken one, at most `limit`, and whether those are all."""
    found: list[T] = []
    try:
        for item in items:
            if len(found) == limit:
                return found, False
            found.append(item)
    except DerError:
        return found, False
    return found, True
