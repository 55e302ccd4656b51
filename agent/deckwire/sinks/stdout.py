"""Lines on standard output."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.sinks.bytestream import LineStream
from deckwire.sinks.sink import ReceiverGoneError, Sink

_STDOUT = 1
_STALL_MS = 500


class StdoutSink(Sink):
    """Writes to file descriptor 1, where nothing else may write; ends when its reader is gone."""

    scheme = "stdout"

    def __init__(self, fd: int = _STDOUT, capacity: int = SINK_QUEUE) -> None:
        super().__init__("stdout", capacity)
        self._fd = fd
        self._writable = select.poll()
        self._writable.register(fd, select.POLLOUT)
        self._stream = LineStream(self._write)

    def _write(self, data: memoryview) -> int:
        # What is "writable" takes PIPE_BUF bytes at once, pipe(7): so this never hangs in write().
        if not self._writable.poll(_STALL_MS):
            raise TimeoutError
        return os.write(self._fd, data[: select.PIPE_BUF])

    def _deliver(self, lines: Sequence[bytes]) -> int:
        try:
            return self._stream.send(lines)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EBADF):
                raise ReceiverGoneError(error.errno, error.strerror) from error
            raise

    def _release(self) -> None:
        """Standard output is not ours to close."""
