"""Reads members of construct schemas of fixed layout with one struct.unpack.

That costs a quarter of a compiled schema. The layout is derived from the schema, never written a
second time.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from struct import Struct, calcsize
from typing import Any

from construct import Array, Bytes, Construct, FormatField
from construct import Struct as Schema


class Flat:
    """A schema that has only little-endian numbers and bytes of fixed length.

    Raises:
        TypeError: the schema has another field.
    """

    def __init__(self, name: str, schema: Schema) -> None:
        names = [field.name for field in schema.subcons]
        self._struct = Struct("<" + "".join([_format(field.subcon) for field in schema.subcons]))
        fields: Any = namedtuple(name, names)  # type: ignore[misc] # the schema names them
        self._make: Callable[[tuple[Any, ...]], Any] = fields._make
        self.size = self._struct.size
        """Size in bytes."""

    def parse(self, data: bytes, at: int = 0) -> Any:
        """Read the fields from offset `at`, as attributes; struct.error if `data` is too short."""
        return self._make(self._struct.unpack_from(data, at))

    def build(self, fields: tuple[Any, ...]) -> bytes:
        """Make the bytes of such fields; struct.error for values that do not fit."""
        return self._struct.pack(*fields)


def members(schema: Schema, *names: str) -> Struct:
    """Make a reader of these members of a schema, in this order, that skips all others.

    A dot leads into a struct or an array: ``syn.ttl``, ``side.1.packets``. The schema may have
    structs, arrays, little-endian numbers and bytes of fixed length.

    Raises:
        TypeError: the schema has another field.
        ValueError: it has no such members in this order.
    """
    left = list(names)
    layout = ["<"]
    for name, field in _leaves(schema):
        form = _format(field)
        if left and left[0] == name:
            layout.append(form)
            del left[0]
        else:
            layout.append(f"{calcsize('<' + form)}x")
    if left:
        raise ValueError(f"no member {left[0]} after those named before it")
    return Struct("".join(layout))


def offset(schema: Schema, name: str) -> int:
    """The offset of a member in bytes; `name` is as in `members`, but may be a struct."""
    at = 0
    for leaf, field in _leaves(schema):
        if f"{leaf}.".startswith(f"{name}."):
            return at
        at += field.sizeof()
    raise ValueError(f"no member {name}")


def _leaves(kind: Construct, name: str = "") -> Iterator[tuple[str, Construct]]:
    """Every number or bytes field of a schema, with its dotted name."""
    inner = f"{name}." if name else ""
    if isinstance(kind, Schema):
        for field in kind.subcons:
            yield from _leaves(field.subcon, f"{inner}{field.name}")
    elif isinstance(kind, Array):
        for index in range(kind.count):
            yield from _leaves(kind.subcon, f"{inner}{index}")
    else:
        yield name, kind


def _format(kind: Construct) -> str:
    if isinstance(kind, FormatField) and (kind.fmtstr[0] == "<" or kind.length == 1):
        return str(kind.fmtstr[1:])
    if isinstance(kind, Bytes):
        return f"{kind.length}s"
    raise TypeError(f"{kind!r} is neither a number nor bytes")
