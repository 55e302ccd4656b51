"""Lines appended to a file, a named pipe or a character device."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.opened_file import OpenedFile
from deckwire.output.sinks.owner import Creation
from deckwire.output.sinks.sink import Sink

LOOK_S = 1.0
"""Seconds between two looks at whether the path still names what is open."""


class FileSink(Sink):
    """Opens its path at once, again on `reopen`, and again when the path names another file.

    Raises OSError if the first opening fails. While the path is not what it was then, lines wait:
    see OpenedFile.

    Lines wait while the disk is full; the line that it interrupted is continued. When the reader of
    a named pipe goes, its next reader gets the rest of the line.
    """

    scheme = "file"
    remedy = "make the path writable"

    def __init__(
        self, path: str, capacity: int = SINK_QUEUE, creation: Creation | None = None
    ) -> None:
        super().__init__(f"file:{path}", capacity)
        self._file = OpenedFile(path, creation or Creation())
        self._looked = 0.0
        try:
            self._reopen()
        except OSError as error:
            # The reader of a named pipe may come later.
            if error.errno != errno.ENXIO:
                raise

    def _connect(self) -> None:
        now = time.monotonic()
        if self._file.is_open and now - self._looked < LOOK_S:
            return
        if not self._file.is_open or not self._file.is_in_place():
            self._reopen()
        self._looked = now

    def _reopen(self) -> None:
        if self._file.is_open and self._file.is_pipe and self._file.is_in_place():
            # Opening it again could cut the line that its reader is at.
            return
        # If this fails and the path does not name what is open, lines wait.
        self._looked = -LOOK_S
        self._recount("in_doubt", self._file.open())

    def _deliver(self, lines: Sequence[bytes]) -> int:
        sent = self._file.writer.send(lines)
        if sent and self._file.was_deleted():
            # Nobody can find them there: they are written again.
            self._looked = -LOOK_S
            return 0
        return sent

    def _advice(self, error: OSError) -> str:
        return OpenedFile.advice(error) or self.remedy

    def _release(self) -> None:
        self._recount("in_doubt", self._file.close())
