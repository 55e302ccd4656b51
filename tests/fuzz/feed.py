"""A fuzzer's bytes as the small choices that a structured harness makes."""

from __future__ import annotations


class Feed:
    """Hands out the bytes from the front; what is asked for beyond the end is zero or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def number(self, width: int) -> int:
        """The next `width` bytes as an unsigned big-endian number."""
        return int.from_bytes(self.take(width), "big")

    def counted(self, width: int = 1) -> bytes:
        """Bytes behind their own length."""
        return self.take(self.number(width))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
