"""Turn the bytes of a fuzzer into the choices that a structured target makes."""

from __future__ import annotations


class Feed:
    """Reads bytes from the front; after the end every number is 0 and every string empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next bytes, at most `size`."""
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def number(self, width: int) -> int:
        """Return the next `width` bytes as an unsigned big-endian number."""
        return int.from_bytes(self.take(width), "big")

    def counted(self, width: int = 1) -> bytes:
        """Return bytes whose number comes first, in `width` bytes."""
        return self.take(self.number(width))

    def rest(self) -> bytes:
        """Return the remaining bytes."""
        return self.take(len(self._data))
