"""Lines on standard output."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.pipe_writer import PipeWriter
from deckwire.output.sinks.sink import ReceiverGoneError, Sink

_STDOUT = 1
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EBADF})


class StdoutSink(Sink):
    """Writes to file descriptor 1, where nothing else may write; ends when its reader is gone."""

    scheme = "stdout"
    remedy = "let its reader go on"

    def __init__(self, fd: int = _STDOUT, capacity: int = SINK_QUEUE) -> None:
        super().__init__("stdout", capacity)
        self._pipe = PipeWriter(fd)

    def _deliver(self, lines: Sequence[bytes]) -> int:
        try:
            return self._pipe.send(lines)
        except OSError as error:
            if error.errno in _GONE:
                raise ReceiverGoneError(error.errno, error.strerror) from error
            raise

    def _reopen(self) -> None:
        """Do nothing: standard output cannot be opened again."""

    def _release(self) -> None:
        """Count what is in doubt; standard output is not ours to close."""
        self._recount("in_doubt", self._pipe.in_doubt())
