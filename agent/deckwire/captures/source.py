"""Read the bytes of a capture file forwards, without knowledge of formats."""

from __future__ import annotations

from typing import BinaryIO

from deckwire.captures.frame import CaptureError

SKIP_CHUNK = 65_536


class Source:
    """A file that is read once from its start, so that pipes work and memory stays bounded."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path = path
        self.position = 0
        """Number of bytes read so far."""
        self._file = file

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end of the file. The caller bounds `size`.

        Raises CaptureError if the operating system reports an error.
        """
        try:
            data = self._file.read(size)
        except OSError as error:
            raise self.error(self.position, error.strerror or "cannot be read") from error
        self.position += len(data)
        return data

    def skip(self, size: int) -> bool:
        """Skip `size` bytes in small pieces; return False if the file ends before."""
        while size > 0:
            passed = len(self.read(min(size, SKIP_CHUNK)))
            if not passed:
                return False
            size -= passed
        return True

    def error(self, offset: int, reason: str) -> CaptureError:
        """Return the error for `reason` at `offset` of this file."""
        return CaptureError(self.path, offset, reason)
