"""A capture file of either format, recognised by its first four bytes."""

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
    """An open capture: iterate it once for its frames, close it or use it in a ``with``.

    SynPacket raises CaptureError for a file that is missing, empty or no capture. Iterating
    yields every frame that can be read and raises CaptureError where a broken file ends.
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
            """Bytes in the file; 0 where that is not known, as for a pipe."""
            self._frames = self._recognise()
        except BaseException:
            self._file.close()
            raise

    @property
    def position(self) -> int:
        """Bytes consumed so far, for a progress bar against `size`."""
        return self._source.position

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def close(self) -> None:
        """Close the file; iterating is over then."""
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
