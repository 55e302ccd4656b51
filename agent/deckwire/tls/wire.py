"""Byte layouts of TLS as compiled construct schemas, and the one gateway through which they run.

The schemas are flat: numbers, fixed byte strings, and vectors in the sense of RFC 8446, 3.4 (a
length and that many bytes) whose items `numbers` and `entries` take apart. Nested schemas could
say it all, at some twenty times the cost of a ClientHello.

Compiled construct does not notice short reads, so `Layout` holds every length against the bytes
that are there. Containers go no further than the modules that read them into message values.
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

from deckwire.tls.errors import Malformed
from deckwire.tls.schema import Compiled


class Vector:
    """A vector in a Layout: its length in bytes, encoded as `length`, then its bytes."""

    def __init__(self, name: str, length: Construct) -> None:
        self.name = name
        self.length_name = f"{name}_length"
        self.length = length
        self.length_size: int = length.sizeof()
        self.fields = (self.length_name / length, name / Bytes(this[self.length_name]))


class Layout:
    """Fixed fields and vectors one after another; `rest` is what follows the last of them."""

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
        """Read all of it from the start of `data`; raises Malformed if any part is not there."""
        try:
            fields = self._schema.parse(data)
        except (ConstructError, struct.error, ValueError) as error:
            # A number read from nothing is one of the latter two, by its width.
            raise Malformed(f"{self._what} too short") from error
        # A short read would have left a vector shorter than its length says: no sum but this one
        # fits into `data` then, because reading goes on from the end of the bytes there are.
        size = self._fixed_size
        for vector in self._vectors:
            size += fields[vector.length_name]
        if size > len(data):
            raise Malformed(f"{self._what} too short")
        return fields

    def parse_cut(self, data: bytes) -> Container:
        """Read what is there of a layout whose end was cut off.

        The vector in which the cut lies holds the bytes before it, those behind it are empty.
        Fixed fields must be there, else Malformed.
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
"""RFC 8446, 4.1.2, up to the extensions."""

SERVER_HELLO = Layout(
    "ServerHello",
    "legacy_version" / Int16ub,
    "random" / Bytes(32),
    Vector("session_id", Int8ub),
    "cipher_suite" / Int16ub,
    "compression_method" / Int8ub,
)
"""RFC 8446, 4.1.3, up to the extensions."""

SERVER_HELLO_DRAFT = Layout(
    "ServerHello",
    "legacy_version" / Int16ub,
    "random" / Bytes(32),
    "cipher_suite" / Int16ub,
)
"""draft-ietf-tls-tls13-21, 4.1.3, up to the extensions."""

VECTOR8 = Layout("vector", Vector("content", Int8ub))
VECTOR16 = Layout("vector", Vector("content", Int16ub))
VECTOR24 = Layout("vector", Vector("content", Int24ub))

# Headers of vector items: what names the item, if anything does, and the length of its bytes.
EXTENSION = KEY_SHARE_ENTRY = struct.Struct(">HH")
SERVER_NAME = struct.Struct(">BH")
PROTOCOL_NAME = struct.Struct(">B")


def whole(layout: Layout, data: bytes) -> bytes:
    """Return the items of the one vector that `data` consists of, e.g. an extension's body."""
    fields = layout.parse(data)
    if fields.rest:
        raise Malformed("bytes behind a vector")
    items: bytes = fields.content
    return items


def numbers(items: bytes) -> tuple[int, ...]:
    """Return the 16-bit values of a vector of nothing else."""
    count, odd = divmod(len(items), 2)
    if odd:
        raise Malformed("odd length of a vector of 16-bit values")
    return struct.unpack(f">{count}H", items)


def entries(
    items: bytes, header: struct.Struct, *, cut: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Yield (first header value, bytes) of the items that each begin with `header`.

    The header's last value is the length of the bytes that follow it. Raises Malformed at an
    item that is not all there; with `cut` that is the end instead.
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
    """Yield the items of a vector that each begin with a length of 24 bits, as `entries` does."""
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
