"""Directories whose entries come and go: inotify(7)."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from errno import ENOENT, ENOTDIR

from deckwire.kernel.syscalls import failure

_IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x40, 0x80, 0x100, 0x200
_IN_ONLYDIR = 0x0100_0000
_ENTRIES = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_ONLYDIR
"""Of <sys/inotify.h>."""
_BUFFER = 65_536

_libc = ctypes.CDLL(None, use_errno=True)
_init = _libc["inotify_init1"]
_init.argtypes = (ctypes.c_int,)
_add_watch = _libc["inotify_add_watch"]
_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class DirectoryWatch:
    """Owns an inotify descriptor."""

    def __init__(self) -> None:
        """Raises OSError if this user has too many of them."""
        self._fd: int = _init(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise failure(ctypes.get_errno(), "inotify_init1")

    def fileno(self) -> int:
        """For poll: readable after a change."""
        return self._fd

    def add(self, path: str) -> bool:
        """Watch a directory, if it exists and is not watched yet; False if there is none.

        Raises:
            OSError: the kernel refused.
        """
        if _add_watch(self._fd, os.fsencode(path), _ENTRIES) >= 0:
            return True
        number = ctypes.get_errno()
        if number in (ENOENT, ENOTDIR):
            return False
        raise failure(number, f"watch of {path}")

    def drain(self) -> None:
        """Drop the changes so far. Only that there were some is of interest."""
        with suppress(BlockingIOError):
            while os.read(self._fd, _BUFFER):
                pass

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
