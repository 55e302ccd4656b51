"""A file in memory for functions that read from a path, overwritten for each input."""

from __future__ import annotations

import os


class MemoryFile:
    """A regular file without a directory entry; its path stays the same."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("fuzz")
        self.path = f"/proc/self/fd/{self._fd}"

    def hold(self, data: bytes) -> str:
        """Replace the content of the file with `data`; return its path."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)
        return self.path
