"""What the C libraries of this process print: BCC's, clang's and the verifier's words."""

from __future__ import annotations

import fcntl
import os
import stat
from types import TracebackType

PRINTED_BYTES = 1 << 24
"""The end that is looked at."""

_STANDARD_ERROR = 2


class Printed:
    """Everything that is written to standard error inside the block.

    Under the agent that is a file, which the agent reads too, and all goes there. A terminal or a
    pipe is spared: a verifier's log has thousands of lines.
    """

    def __enter__(self) -> Printed:
        self._spared: int | None = None
        if not _is_readable_file(_STANDARD_ERROR):
            self._spared = os.dup(_STANDARD_ERROR)
            file = os.memfd_create("deckwire-printed")
            os.dup2(file, _STANDARD_ERROR)
            os.close(file)
        self._start = os.fstat(_STANDARD_ERROR).st_size
        return self

    def text(self) -> str:
        """What there is of it so far."""
        size = os.fstat(_STANDARD_ERROR).st_size
        start = max(self._start, size - PRINTED_BYTES)
        return os.pread(_STANDARD_ERROR, size - start, start).decode(errors="replace")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._spared is not None:
            os.dup2(self._spared, _STANDARD_ERROR)
            os.close(self._spared)


def _is_readable_file(fd: int) -> bool:
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return stat.S_ISREG(os.fstat(fd).st_mode) and access == os.O_RDWR
