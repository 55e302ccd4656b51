"""Byte layouts of TLS as compiled construct schemas, and the only functions that run them.

The schemas are flat: numbers, byte strings of a fixed length, and vectors. A vector is a length and
that many bytes (RFC 8446, 3.4); `numbers` and `entries` split it into items. Nested schemas would
take about twenty times as long for a ClientHello.

Compiled construct schemas do not notice a short read, so `Layout` checks every length against the
bytes present. Containers do not leave the modules that turn them into message values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from construct import (
    Bytes,
    Construct,
    ConstructError,
    Container,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int24ub,
    Struct,
    this,
)

from deckwire.schema import Compiled
from deckwire.tls.errors import Malformed


class Vector:
    """A vector in a Layout: its length in bytes, encoded as `length`, then its bytes."""

    def __init__(self, name: str, length: Construct) -> None:
        self.name = name
        self.length_name = f"{name}_length"
        self.length = length
        self.length_size: int = length.sizeof()
        self.fields = (self.length_name / length, name / Bytes(this[self.length_name]))


class Layout:
    """A sequence of fixed fields and vectors; the field `rest` holds the bytes after the last."""

    def __init__(self, what: str, *parts: Construct | Vector) -> None:
        """`what` names the layout in error reasons, e.g. "ClientHello"."""
        self._what = what
        self._parts = parts
        self._vectors = [part for part in parts if isinstance(part, Vector)]
        fields: list[Construct] = []
        for part in parts:
            fields += part.fields if isinstance(part, Vector) else (part,)
        self._schema = Compiled(Struct(*fields, "rest" / GreedyBytes))
        self._fixed_size = sum(
            part.length_size if isinstance(part, Vector) else part.sizeof() for part in parts
        )

    def parse(self, data: bytes) -> Container:
        """Parse all parts from the start of `data`; raises Malformed if one is not complete."""
        try:
            fields = self._schema.parse(data)
        except (ConstructError, struct.error, ValueError) as error:
            # Without bytes for a number construct raises one of the last two, by its width.
            raise Malformed(f"{self._what} too short") from error
        # After a short read some vector is shorter than its length says. Then the sum of all
        # lengths exceeds `data`, because construct goes on reading at the end of `data`.
        size = self._fixed_size
        for vector in self._vectors:
            size += fields[vector.length_name]
        if size > len(data):
            raise Malformed(f"{self._what} too short")
        return fields

    def parse_cut(self, data: bytes) -> Container:
        """Parse a layout whose end was cut off.

        The vector with the cut holds the bytes before the cut, and the vectors after it are
        empty. Raises Malformed if a fixed field is missing.
        """
        fields = Container()
        at = 0
        for part in self._parts:
            if isinstance(part, Vector):
                head = data[at : at + part.length_size]
                at += part.length_size
                length = part.length.parse(head) if len(head) == part.length_size else 0
                fields[part.name] = data[at : at + length]
                at += length
            else:
                size = part.sizeof()
                if at + size > len(data):
                    raise Malformed(f"{self._what} cut before {part.name}")
                fields[part.name] = part.parse(data[at : at + size])
                at += size
        fields.rest = data[at:]
        return fields


CLIENT_HELLO = Layout(
    "ClientHello",
    "legacy_version" / Int16ub,
    "random" / Bytes(32),
    Vector("session_id", Int8ub),
    Vector("cipher_suites", Int16ub),
    Vector("compression_methods", Int8ub),
)
"""A ClientHello up to the extensions (RFC 8446, 4.1.2)."""

SERVER_HELLO = Layout(
    "ServerHello",
    "legacy_version" / Int16ub,
    "random" / Bytes(32),
    Vector("session_id", Int8ub),
    "cipher_suite" / Int16ub,
    "compression_method" / Int8ub,
)
"""A ServerHello up to the extensions (RFC 8446, 4.1.3)."""

SERVER_HELLO_DRAFT = Layout(
    "ServerHello",
    "legacy_version" / Int16ub,
    "random" / Bytes(32),
    "cipher_suite" / Int16ub,
)
"""A ServerHello of an early draft up to the extensions (draft-ietf-tls-tls13-21, 4.1.3)."""

VECTOR8 = Layout("vector", Vector("content", Int8ub))
VECTOR16 = Layout("vector", Vector("content", Int16ub))
VECTOR24 = Layout("vector", Vector("content", Int24ub))

# Headers of vector items: the item's type, if it has one, and the number of bytes that follow.
EXTENSION = KEY_SHARE_ENTRY = struct.Struct(">HH")
SERVER_NAME = struct.Struct(">BH")
PROTOCOL_NAME = struct.Struct(">B")


def whole(layout: Layout, data: bytes) -> bytes:
    """Return the items of the single vector in `data`, e.g. the body of an extension."""
    fields = layout.parse(data)
    if fields.rest:
        raise Malformed("bytes after a vector")
    items: bytes = fields.content
    return items


def numbers(items: bytes) -> tuple[int, ...]:
    """Return the values of a vector of 16-bit numbers."""
    count, odd = divmod(len(items), 2)
    if odd:
        raise Malformed("odd length of a vector of 16-bit values")
    return struct.unpack(f">{count}H", items)


def entries(
    items: bytes, header: struct.Struct, *, cut: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Yield (first header value, bytes) of each item; every item begins with `header`.

    The last value of the header is the number of bytes that follow it. An incomplete item raises
    Malformed, or ends the iteration if `cut` is set.
    """
    at, end = 0, len(items)
    while at < end:
        start = at + header.size
        if start > end:
            break
        head = header.unpack_from(items, at)
        at = start + head[-1]
        if at > end:
            break
        yield head[0], items[start:at]
    else:
        return
    if not cut:
        raise Malformed("vector item too long")


def entries24(items: bytes, *, cut: bool = False) -> Iterator[bytes]:
    """Yield the items of a vector whose items begin with a length of 24 bits, like `entries`."""
    at, end = 0, len(items)
    while at < end:
        start = at + 3
        at = start + int.from_bytes(items[at:start], "big")
        if start > end or at > end:
            break
        yield items[start:at]
    else:
        return
    if not cut:
        raise Malformed("vector item too long")
