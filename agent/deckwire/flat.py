"""Flat construct schemas read by one struct.unpack: a quarter of what a compiled schema costs."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from struct import Struct
from typing import Any

from construct import Bytes, Construct, FormatField, Renamed
from construct import Struct as Schema


class Flat:
    """A schema of nothing but little-endian numbers and bytes of fixed length, field by field.

    Raises TypeError for any other schema: the layout is the schema's, never a second one.
    """

    def __init__(self, name: str, schema: Schema) -> None:
        self._struct = Struct("<" + "".join(map(_format, schema.subcons)))
        names = [field.name for field in schema.subcons]
        fields: Any = namedtuple(name, names)  # type: ignore[misc] # the schema names them
        self._make: Callable[[tuple[Any, ...]], Any] = fields._make
        self.size = self._struct.size
        """Bytes that it takes."""

    def parse(self, data: bytes, at: int = 0) -> Any:
        """The fields from offset `at`, as attributes; struct.error if they are not all there."""
        return self._make(self._struct.unpack_from(data, at))

    def build(self, fields: tuple[Any, ...]) -> bytes:
        """The bytes of what `parse` gives; struct.error for values that do not fit."""
        return self._struct.pack(*fields)


def _format(field: Renamed) -> str:
    kind: Construct = field.subcon
    if isinstance(kind, FormatField) and (kind.fmtstr[0] == "<" or kind.length == 1):
        return str(kind.fmtstr[1:])
    if isinstance(kind, Bytes):
        return f"{kind.length}s"
    raise TypeError(f"{field.name} is neither a number nor bytes")
