"""The body of a message: how long it is, and its first bytes (RFC 9112, 6 and 7)."""

from __future__ import annotations

from deckwire.limits import HTTP_BODY_BYTES, HTTP_CHUNK_DIGITS

_HEX = frozenset(b"0123456789abcdefABCDEF")


class Body:
    """Takes a body's bytes out of a buffer; it may have a length, come in chunks or never end."""

    def __init__(self, length: int | None, *, is_chunked: bool = False) -> None:
        self.length = length
        self.kept = bytearray()
        self.counted = 0
        """Bytes taken so far."""
        self.ended = length == 0 and not is_chunked
        self._left = 0 if is_chunked else length
        """Bytes left of the body or of a chunk; None without an end."""
        self._is_chunked = is_chunked
        self._in_trailer = False
        self._has_chunk = False

    def take(self, data: bytes) -> bytes:
        """Take what belongs to the body; what follows it, or is not enough to go on."""
        while data and not self.ended:
            if self._left is None:
                self._keep(data)
                return b""
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                self._keep(piece)
                self.ended = not self._left and not self._is_chunked
                continue
            line, newline, rest = data.partition(b"\n")
            if not newline:
                break
            data = rest
            self._take_line(line.strip())
        return data

    def _take_line(self, line: bytes) -> None:
        """A line between chunks: the end of one, the size of the next, or a trailer."""
        if self._in_trailer:
            self.ended = not line
            return
        if self._has_chunk and not line:
            self._has_chunk = False
            return
        size = line.partition(b";")[0].strip()
        if not size or len(size) > HTTP_CHUNK_DIGITS or not _HEX.issuperset(size):
            # It is malformed, and nobody knows where it ends.
            self._left = None
            return
        self._left, self._has_chunk = int(size, 16), True
        self._in_trailer = not self._left

    def _keep(self, piece: bytes) -> None:
        self.counted += len(piece)
        self.kept += piece[: HTTP_BODY_BYTES - len(self.kept)]
