"""Open a capture file; its first four bytes show its format."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from types import TracebackType

from deckwire.captures import pcap, pcapng
from deckwire.captures.frame import CaptureError, Frame
from deckwire.captures.source import Source

MAGIC_BYTES = 4
COMPRESSED = {bytes.fromhex("1f8b"): "gzip", bytes.fromhex("28b5"): "zstd"}


class CaptureFile:
    """An open capture file: iterate over it once to get its frames, then close it.

    It is a context manager. Opening raises CaptureError if the file is missing, empty or not a
    capture. Iterating yields every frame that can be read, and raises CaptureError where a broken
    file cannot be read any further.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name = os.fspath(path)
        try:
            self._file = open(name, "rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise CaptureError(name, 0, error.strerror or "cannot be opened") from error
        self._source = Source(name, self._file)
        try:
            facts = os.fstat(self._file.fileno())
            self.size = facts.st_size if stat.S_ISREG(facts.st_mode) else 0
            """Size of the file in bytes; 0 if unknown, as for a pipe."""
            self._frames = self._recognise()
        except BaseException:
            self._file.close()
            raise

    @property
    def position(self) -> int:
        """Number of bytes read so far."""
        return self._source.position

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def close(self) -> None:
        """Close the file, which ends the iteration."""
        self._file.close()

    def __enter__(self) -> CaptureFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _recognise(self) -> Iterator[Frame]:
        magic = self._source.read(MAGIC_BYTES)
        if not magic:
            raise self._source.error(0, "empty file")
        if magic == pcapng.MAGIC:
            return pcapng.frames(self._source, magic)
        if magic in pcap.VARIANTS:
            return pcap.frames(self._source, magic)
        if packer := COMPRESSED.get(magic[:2]):
            raise self._source.error(0, f"compressed with {packer}: decompress it first")
        raise self._source.error(0, "neither pcap nor pcapng")
