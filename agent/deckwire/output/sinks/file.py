"""Lines appended to a file, a named pipe or a character device."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence
from functools import partial

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.pipe_writer import PipeWriter
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.stream_writer import LineWriter

LOOK_S = 1.0
"""Seconds between two looks at whether the path still names what is open."""

_MODE = 0o640
"""Of a file that is made: its owner writes, its group reads."""
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a character device",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
}
_WRITABLE = frozenset({stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR})
_IN_THE_WAY = "put back what was there, or restart Deckwire if this is meant"
_ADVICE = {
    errno.ENOENT: "make it, or its directory, again",
    errno.ENOTDIR: "make its directory again",
    errno.EACCES: "let Deckwire write there",
    errno.EPERM: "let Deckwire write there",
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in its quota",
    errno.ELOOP: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENXIO: "start the program that reads it",
    errno.EPIPE: "start the program that reads it",
}


class FileSink(Sink):
    """Opens its path at once, again on `reopen`, and again when the path names another file.

    Raises OSError if the first opening fails. The path must stay what it was then: a file, a named
    pipe or a character device, and a symbolic link only if it was one. Otherwise lines wait until
    it is that again. A file that is gone is made anew.

    Lines wait while the disk is full; the line that it interrupted is continued. When the reader of
    a named pipe goes, its next reader gets the rest of the line.
    """

    scheme = "file"
    remedy = "make the path writable"

    def __init__(self, path: str, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"file:{path}", capacity)
        self._path = path
        self._follows = os.path.islink(path)
        self._kind = _kind_at(path)
        self._fd = -1
        self._looked = 0.0
        self._writer: LineWriter | PipeWriter
        try:
            self._reopen()
        except OSError as error:
            # The reader of a named pipe may come later.
            if error.errno != errno.ENXIO:
                raise

    def _connect(self) -> None:
        now = time.monotonic()
        if self._fd >= 0 and now - self._looked < LOOK_S:
            return
        if self._fd < 0 or not self._is_in_place():
            self._reopen()
        self._looked = now

    def _reopen(self) -> None:
        if self._fd >= 0 and self._kind == stat.S_IFIFO and self._is_in_place():
            # Opening it again could cut the line that its reader is at.
            return
        # If this fails and the path does not name what is open, lines wait.
        self._looked = -LOOK_S
        fd = _open(self._path, self._kind, self._follows)
        self._release()
        self._fd = fd
        is_pipe = self._kind == stat.S_IFIFO
        self._writer = PipeWriter(fd) if is_pipe else LineWriter(partial(os.write, fd))

    def _deliver(self, lines: Sequence[bytes]) -> int:
        sent = self._writer.send(lines)
        if sent and self._was_deleted():
            # Nobody can find them there: they are written again.
            self._looked = -LOOK_S
            return 0
        return sent

    def _advice(self, error: OSError) -> str:
        return _ADVICE.get(error.errno or 0, self.remedy)

    def _release(self) -> None:
        if self._fd < 0:
            return
        in_doubt = self._writer.in_doubt() if isinstance(self._writer, PipeWriter) else 0
        os.close(self._fd)
        self._fd = -1
        self._recount("in_doubt", in_doubt)

    def _is_in_place(self) -> bool:
        try:
            there = os.stat(self._path, follow_symlinks=self._follows)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(there, os.fstat(self._fd))

    def _was_deleted(self) -> bool:
        # /dev/stderr still names a file that was deleted: being in place counts more.
        return (
            self._kind == stat.S_IFREG
            and not os.fstat(self._fd).st_nlink
            and not self._is_in_place()
        )


def _kind_at(path: str) -> int:
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return stat.S_IFREG
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind == stat.S_IFSOCK:
        raise OSError(errno.ENXIO, "a socket, not a file; write it as unix:PATH", path)
    if kind not in _WRITABLE:
        raise OSError(
            errno.EINVAL, "a block device; name a file, a named pipe or a character device", path
        )
    return kind


def _open(path: str, kind: int, follows: bool) -> int:
    # Non-blocking, because opening a pipe must not hang.
    flags = os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    # A file is opened for reading too, to see its last byte.
    flags |= os.O_RDWR | os.O_CREAT if kind == stat.S_IFREG else os.O_WRONLY
    if not follows:
        flags |= os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, _MODE)
    except OSError as error:
        raise _explained(error, path, follows) from error
    try:
        status = os.fstat(fd)
        if stat.S_IFMT(status.st_mode) != kind:
            there = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
            raise OSError(errno.EEXIST, f"{there} is in its place", path)
        # A line that a full disk or a crash cut must not swallow the next one.
        size = status.st_size
        if kind == stat.S_IFREG and size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")
        os.set_blocking(fd, kind != stat.S_IFIFO)
    except OSError:
        os.close(fd)
        raise
    return fd


def _explained(error: OSError, path: str, follows: bool) -> OSError:
    if error.errno == errno.ELOOP and not follows:
        return OSError(errno.ELOOP, "a symbolic link is in its place", path)
    if error.errno == errno.EISDIR:
        return OSError(errno.EISDIR, "a directory is in its place", path)
    if error.errno == errno.ENXIO:
        # open() of a socket fails with this error too.
        pipe = stat.S_ISFIFO(os.stat(path).st_mode)
        what = "nobody reads this pipe" if pipe else "a socket is in its place"
        return OSError(errno.ENXIO if pipe else errno.EEXIST, what, path)
    return error
