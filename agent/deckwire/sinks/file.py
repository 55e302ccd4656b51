"""Lines appended to a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from functools import partial

from deckwire.limits import SINK_QUEUE
from deckwire.sinks.bytestream import LineStream
from deckwire.sinks.sink import Sink

_MODE = 0o640


class FileSink(Sink):
    """Opens its file at once, for appending, and again on `reopen`.

    Raises OSError if that first opening fails. If a later one fails, the file that is open is kept:
    it may have a new name by then, but nothing is lost. A full disk is waited for; the line that
    it interrupted is continued.
    """

    scheme = "file"

    def __init__(self, path: str, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"file:{path}", capacity)
        self._path = path
        self._fd = -1
        self._reopen()

    def _reopen(self) -> None:
        fd = _open(self._path)
        self._release()
        self._fd = fd
        self._stream = LineStream(partial(os.write, fd))

    def _deliver(self, lines: Sequence[bytes]) -> int:
        return self._stream.send(lines)

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: str) -> int:
    # Non-blocking, for opening a pipe by mistake must not hang; readable, to see the last byte.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags, _MODE)
    try:
        status = os.fstat(fd)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)):
            raise OSError(f"{path}: neither a file nor a character device")
        # A line torn by a full disk or a crash must not swallow the next one.
        if status.st_size and os.pread(fd, 1, status.st_size - 1) != b"\n":
            os.write(fd, b"\n")
        os.set_blocking(fd, True)
    except OSError:
        os.close(fd)
        raise
    return fd
