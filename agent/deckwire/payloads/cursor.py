"""Reads the fields of a binary message in their order."""

from __future__ import annotations

from typing import Literal

from deckwire.payloads.finding import Kind, Piece


class Cut(Exception):
    """The bytes end before the field does."""


class Cursor:
    """A place in bytes. What would go beyond them raises Cut."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise Cut
        return self.data[start : self.at]

    def number(self, width: int, order: Literal["big", "little"] = "big") -> int:
        """The next `width` bytes as a number."""
        return int.from_bytes(self.take(width), order)

    def until_nul(self) -> bytes:
        """The bytes before the next NUL, which is passed."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise Cut
        start, self.at = self.at, end + 1
        return self.data[start:end]

    def piece(self, kind: Kind, size: int) -> Piece:
        """The next `size` bytes as a piece of a login, without a value if they are cut."""
        start, self.at = self.at, self.at + size
        end = min(self.at, len(self.data))
        value = self.data[start:end] if end == self.at and kind is not Kind.SECRET else None
        return Piece(kind, value, min(start, end), end)
