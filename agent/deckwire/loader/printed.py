"""The output of the C libraries in this process: BCC, clang and the verifier's log."""

from __future__ import annotations

import fcntl
import os
import stat
from types import TracebackType

PRINTED_BYTES = 1 << 24
"""The end of the output that is read."""

_STANDARD_ERROR = 2


class Printed:
    """A context manager that reads what the block writes to standard error.

    The agent gives the loader a file there, which the agent reads too. Everything goes to it. A
    terminal or a pipe gets nothing, because a verifier's log has thousands of lines.
    """

    def __enter__(self) -> Printed:
        self._saved: int | None = None
        if not _is_readable_file(_STANDARD_ERROR):
            self._saved = os.dup(_STANDARD_ERROR)
            file = os.memfd_create("deckwire-printed")
            os.dup2(file, _STANDARD_ERROR)
            os.close(file)
        self._start = os.fstat(_STANDARD_ERROR).st_size
        return self

    def text(self) -> str:
        """The output so far."""
        size = os.fstat(_STANDARD_ERROR).st_size
        start = max(self._start, size - PRINTED_BYTES)
        return os.pread(_STANDARD_ERROR, size - start, start).decode(errors="replace")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._saved is not None:
            os.dup2(self._saved, _STANDARD_ERROR)
            os.close(self._saved)


def _is_readable_file(fd: int) -> bool:
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return stat.S_ISREG(os.fstat(fd).st_mode) and access == os.O_RDWR
