"""The bytes of a capture file, forward only: knows positions and short reads, no formats."""

from __future__ import annotations

from typing import BinaryIO

from deckwire.captures.frame import CaptureError

SKIP_CHUNK = 65_536


class Source:
    """A file read once from the front, so that pipes work and memory stays bounded."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path = path
        self.position = 0
        """Bytes consumed so far."""
        self._file = file

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end of the file. The caller bounds `size`.

        Raises CaptureError if the operating system cannot read on.
        """
        try:
            data = self._file.read(size)
        except OSError as error:
            raise self.error(self.position, error.strerror or "cannot be read") from error
        self.position += len(data)
        return data

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes in small pieces; False if the file ends before."""
        while size > 0:
            passed = len(self.read(min(size, SKIP_CHUNK)))
            if not passed:
                return False
            size -= passed
        return True

    def error(self, offset: int, reason: str) -> CaptureError:
        """The error that tells `reason` at `offset` of this file."""
        return CaptureError(self.path, offset, reason)
