"""Compiled construct schemas without the ceremony of a call: half of what a small parse costs."""

from __future__ import annotations

from io import BytesIO

from construct import Construct, Container


class Compiled:
    """A schema that reads nothing of the caller's context: what construct builds anew for each call
    stands ready here.

    As with any compiled schema lengths are the caller's to check: short reads raise struct.error,
    or ValueError, or go unnoticed in a field of bytes.
    """

    def __init__(self, schema: Construct) -> None:
        compiled = schema.compile()
        self._read = compiled.parsefunc
        self.build = compiled.build
        """As construct's own."""
        self._context = Container(
            _params=Container(),
            _root=None,
            _parsing=True,
            _building=False,
            _sizing=False,
            _subcons=None,
            _io=None,
            _index=None,
        )

    def parse(self, data: bytes) -> Container:
        """Read the schema from the start of `data`."""
        return self._read(BytesIO(data), self._context)
