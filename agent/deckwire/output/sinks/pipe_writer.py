"""Writing lines into a descriptor that another program reads, such as a pipe."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable, Sequence
from functools import partial

from deckwire.output.sinks.kernel_buffer import unread_bytes, unsent_bytes
from deckwire.output.sinks.stream_writer import LineWriter
from deckwire.output.sinks.unconfirmed import UnconfirmedLines

_STALL_MS = 500
"""Milliseconds that one write may wait for a slow reader."""
_FULL_S = 0.05
"""Seconds to wait while too many lines are unconfirmed."""


class PipeWriter:
    """Never hangs in a write, and knows what a reader that has gone left unread.

    The caller keeps the descriptor and closes it. A terminal or a file, as stdout may be, has no
    reader that could go.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines = LineWriter(self._write)
        self._unconfirmed = UnconfirmedLines()
        self._whole = 0
        """Bytes of whole lines."""
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._outstanding = _outstanding_bytes(fd)

    def send(self, lines: Sequence[bytes]) -> int:
        """Write lines, given without their newline, as LineWriter does."""
        outstanding = self._outstanding()
        if not self.reader_is_gone():
            self._confirm(outstanding)
        if not self._unconfirmed.room:
            time.sleep(_FULL_S)
            return 0
        lines = lines[: self._unconfirmed.room]
        sent = self._lines.send(lines)
        sizes = [len(line) + 1 for line in lines[:sent]]
        self._unconfirmed.add(sizes)
        self._whole += sum(sizes)
        return sent

    def reader_is_gone(self) -> bool:
        """Whether nobody has the other end open."""
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in self._poll.poll(0))

    def in_doubt(self) -> int:
        """Lines written that a reader left unread when it went away; 0 while there is a reader.

        Exact for a pipe, an upper bound for a socket.
        """
        if not self.reader_is_gone():
            return 0
        if stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            self._confirm(unread_bytes(self._fd))
        return self._unconfirmed.unconfirmed

    def _confirm(self, outstanding: int) -> None:
        self._unconfirmed.confirm(outstanding, self._lines.taken - self._whole)

    def _write(self, data: memoryview) -> int:
        # A writable pipe takes PIPE_BUF bytes at once, pipe(7): so this never hangs in write().
        if not self._poll.poll(_STALL_MS):
            raise TimeoutError
        return os.write(self._fd, data[: select.PIPE_BUF])


def _outstanding_bytes(fd: int) -> Callable[[], int]:
    """What asks how many bytes nobody has read, for this kind of descriptor."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        # Closed before the start: the first write reports it.
        mode = 0
    if stat.S_ISFIFO(mode):
        return partial(unread_bytes, fd)
    if stat.S_ISSOCK(mode):
        return partial(unsent_bytes, fd)
    return lambda: 0
