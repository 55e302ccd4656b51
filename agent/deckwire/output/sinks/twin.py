"""A log and its twin: after each line of the log, its record goes to a file of the same name."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deckwire.limits import SINK_QUEUE
from deckwire.output.decnet_json import record
from deckwire.output.sinks import file
from deckwire.output.sinks.opened_file import OpenedFile
from deckwire.output.sinks.owner import Creation
from deckwire.output.sinks.sink import Sink

SUFFIX = ".json"


class TwinSink(Sink):
    """Writes each line of SyslogFormat to the log, then at once its record to the twin.

    Each takes one write that ends in its newline, because the reader of the twin stops at a record
    that is not whole. A line counts as written when both files have their part. If only the log
    has it, the next try continues with the twin. Both files must be regular. Each is opened again
    as FileSink does it.

    The record is made here, because that takes longer than making the line.

    Raises OSError if a file cannot be opened.
    """

    scheme = file.FileSink.scheme
    remedy = file.FileSink.remedy

    def __init__(
        self, path: str, capacity: int = SINK_QUEUE, creation: Creation | None = None
    ) -> None:
        super().__init__(f"file:{path}", capacity)
        self._files = tuple(
            OpenedFile(one, creation or Creation()) for one in (path, twin_path(path))
        )
        for one in self._files:
            if not one.is_file:
                raise OSError(errno.EINVAL, "a log with a twin must be a file", one.path)
        self._whole = 0
        """How many files have their part of the next line."""
        self._looked = 0.0
        try:
            for one in self._files:
                one.open()
        except OSError:
            self._release()
            raise

    def _connect(self) -> None:
        now = time.monotonic()
        if now - self._looked < file.LOOK_S and all(one.is_open for one in self._files):
            return
        for one in self._files:
            if not one.is_open or not one.is_in_place():
                with self._naming(one):
                    one.open()
        self._looked = now

    def _reopen(self) -> None:
        # If this fails and a path does not name what is open, lines wait.
        self._looked = -file.LOOK_S
        for one in self._files:
            with self._naming(one):
                one.open()

    def _deliver(self, lines: Sequence[bytes]) -> int:
        for sent, line in enumerate(lines):
            try:
                whole = self._write(line)
            except OSError:
                if not sent:
                    raise
                return sent
            if not whole:
                return sent
        return len(lines)

    def _write(self, line: bytes) -> bool:
        """Write the parts that are not written yet; False if one must wait."""
        while self._whole < len(self._files):
            one = self._files[self._whole]
            part = record(line) if self._whole else line
            with self._naming(one):
                sent = one.writer.send((part,))
            if not sent:
                return False
            if one.was_deleted():
                # Nobody can find it there: it is written again.
                self._looked = -file.LOOK_S
                return False
            self._whole += 1
        self._whole = 0
        return True

    @contextmanager
    def _naming(self, one: OpenedFile) -> Iterator[None]:
        """Name the twin in its errors, because the output has the name of the log."""
        try:
            yield
        except OSError as error:
            if one is self._files[0]:
                raise
            what = f"its twin {one.path}: {error.strerror or error}"
            raise OSError(error.errno, what) from error

    def _advice(self, error: OSError) -> str:
        return OpenedFile.advice(error) or self.remedy

    def _release(self) -> None:
        for one in self._files:
            one.close()


def twin_path(path: str) -> str:
    """The log's path with the suffix ``.json``; ValueError if that is the log itself."""
    twin = os.path.splitext(path)[0] + SUFFIX
    if twin == path:
        raise ValueError(f"twin: the log's own name ends in {SUFFIX}; use another, as in x.log")
    return twin
