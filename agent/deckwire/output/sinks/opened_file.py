"""A path that an output keeps open for writing: a file, a named pipe or a character device."""

from __future__ import annotations

import errno
import os
import stat

from deckwire.output.sinks.owner import Creation
from deckwire.output.sinks.pipe_writer import PipeWriter
from deckwire.output.sinks.stream_writer import LineWriter

_MODE = 0o640
"""Of a file that is made: its owner writes, its group reads."""
_TRIES = 8
"""Times that a file is opened that another program makes and deletes."""
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


class OpenedFile:
    """A path and what it named when it was opened last.

    The path must stay what it was at first: a file, a named pipe or a character device, and a
    symbolic link only if it was one. A file that is gone is made anew.
    """

    def __init__(self, path: str, creation: Creation) -> None:
        """Look at the path, but open nothing. Raises OSError if no output can write to it."""
        self.path = path
        self._creation = creation
        self._follows = os.path.islink(path)
        self._kind = _kind_at(path)
        self._fd = -1
        self._written = False
        """Whether anything was written since it was opened."""
        self.writer: LineWriter | PipeWriter
        """Writes lines to what is open."""

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed again."""
        return self._fd >= 0

    @property
    def is_pipe(self) -> bool:
        """Whether it is a named pipe."""
        return self._kind == stat.S_IFIFO

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, or will be made one."""
        return self._kind == stat.S_IFREG

    def open(self) -> int:
        """Open the path, close what was open, and return how many of its lines are in doubt.

        Raises OSError, and what is open stays open.
        """
        fd = _open(self.path, self._kind, self._follows, self._creation)
        in_doubt = self.close()
        self._fd = fd
        self._written = False
        self.writer = PipeWriter(fd) if self.is_pipe else LineWriter(self._write)
        return in_doubt

    def close(self) -> int:
        """Close what is open, and return how many of its lines are in doubt."""
        if self._fd < 0:
            return 0
        in_doubt = self.writer.in_doubt() if isinstance(self.writer, PipeWriter) else 0
        os.close(self._fd)
        self._fd = -1
        return in_doubt

    def _write(self, view: memoryview) -> int:
        if not self._written and self.is_file:
            # Not when it is opened: an output that is replaced may still be writing there.
            self._end_last_line()
        self._written = True
        return os.write(self._fd, view)

    def _end_last_line(self) -> None:
        """End a line that a full disk or a crash cut: it must not swallow the next one."""
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")

    def is_in_place(self) -> bool:
        """Whether the path names what is open."""
        try:
            there = os.stat(self.path, follow_symlinks=self._follows)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(there, os.fstat(self._fd))

    def was_deleted(self) -> bool:
        """Whether nobody can find what is open any more."""
        # /dev/stderr still names a file that was deleted: being in place counts more.
        return self.is_file and not os.fstat(self._fd).st_nlink and not self.is_in_place()

    @staticmethod
    def advice(error: OSError) -> str | None:
        """What the operator should do about a failure to open or write; None if it is not known."""
        return _ADVICE.get(error.errno or 0)


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


def _opened_or_made(path: str, flags: int, kind: int, creation: Creation) -> int:
    """Open what is there; make a file only if nothing is, because only then its owner is ours."""
    for _ in range(_TRIES):
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            if kind != stat.S_IFREG:
                raise
        # O_EXCL follows no symbolic link, not even one that leads nowhere.
        target = os.path.realpath(path) if not flags & os.O_NOFOLLOW else path
        try:
            fd = os.open(target, flags | os.O_CREAT | os.O_EXCL, creation.mode or _MODE)
        except FileExistsError:
            # Another program has made it meanwhile.
            continue
        try:
            creation.apply(fd, target)
        except OSError:
            # The next start must not find a file that is not as it was asked for.
            os.unlink(target)
            os.close(fd)
            raise
        return fd
    raise FileNotFoundError(errno.ENOENT, "it comes and goes while it is opened", path)


def _open(path: str, kind: int, follows: bool, creation: Creation) -> int:
    # Non-blocking, because opening a pipe must not hang.
    flags = os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    # A file is opened for reading too, to see its last byte.
    flags |= os.O_RDWR if kind == stat.S_IFREG else os.O_WRONLY
    if not follows:
        flags |= os.O_NOFOLLOW
    try:
        fd = _opened_or_made(path, flags, kind, creation)
    except OSError as error:
        raise _explained(error, path, follows) from error
    try:
        status = os.fstat(fd)
        if stat.S_IFMT(status.st_mode) != kind:
            there = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
            raise OSError(errno.EEXIST, f"{there} is in its place", path)
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
