"""Lines into a descriptor that another program reads, such as a pipe."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable, Sequence
from functools import partial

from deckwire.output.sinks.bytestream import ByteStream
from deckwire.output.sinks.doubt import Doubt
from deckwire.output.sinks.kernel_buffer import unread_bytes, unsent_bytes

_STALL_MS = 500
_FULL_S = 0.05


class Pipe:
    """Never hangs in a write, and knows what a reader that has gone left unread.

    The descriptor stays the caller's. A terminal or a file, as stdout may be, has no such reader.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stream = ByteStream(self._write)
        self._doubt = Doubt()
        self._whole = 0
        self._writable = select.poll()
        self._writable.register(fd, select.POLLOUT)
        self._outstanding = _what_is_outstanding(fd)

    def send(self, lines: Sequence[bytes]) -> int:
        """Write lines, given without their newline, as ByteStream writes frames."""
        outstanding = self._outstanding()
        if not self.reader_is_gone():
            self._confirm(outstanding)
        if not self._doubt.room:
            time.sleep(_FULL_S)
            return 0
        frames = [line + b"\n" for line in lines[: self._doubt.room]]
        sent = self._stream.send(frames)
        sizes = [len(frame) for frame in frames[:sent]]
        self._doubt.add(sizes)
        self._whole += sum(sizes)
        return sent

    def reader_is_gone(self) -> bool:
        """Whether nobody has the other end open."""
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in self._writable.poll(0))

    def in_doubt(self) -> int:
        """Lines written that a reader left unread when it went away; 0 while there is one.

        Of a pipe exactly these, of a socket at most so many.
        """
        if not self.reader_is_gone():
            return 0
        if stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            self._confirm(unread_bytes(self._fd))
        return self._doubt.unconfirmed

    def _confirm(self, outstanding: int) -> None:
        self._doubt.confirm(outstanding, self._stream.taken - self._whole)

    def _write(self, data: memoryview) -> int:
        # What is "writable" takes PIPE_BUF bytes at once, pipe(7): so this never hangs in write().
        if not self._writable.poll(_STALL_MS):
            raise TimeoutError
        return os.write(self._fd, data[: select.PIPE_BUF])


def _what_is_outstanding(fd: int) -> Callable[[], int]:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        # Closed before the start: the first write says so.
        mode = 0
    if stat.S_ISFIFO(mode):
        return partial(unread_bytes, fd)
    if stat.S_ISSOCK(mode):
        return partial(unsent_bytes, fd)
    return lambda: 0
