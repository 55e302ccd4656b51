"""What an operator reads about an output that fails, and when it works again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_QUIET_S = 60.0
"""Seconds without a failure after which the same failure is reported again."""


_FILE_ADVICE = "correct the file"


class FileFaultError(ConnectionAbortedError):
    """A file that an output needs for its connections cannot be used."""


class Failures:
    """Reports each failure of one output once, and the end of the trouble. For any thread."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` is the output's, `clock` gives seconds."""
        self._name = name
        self._clock = clock
        self._reported: set[tuple[bool, str]] = set()
        self._failed_at = 0.0
        self._down = False
        self._lock = threading.Lock()

    def failed(self, kind: str, error: OSError, advice: str) -> str | None:
        """The line to report; None if this failure was reported already.

        `kind` is ``connect_error``, ``write_error`` or ``reopen_error``.
        """
        goes_on = kind == "reopen_error"
        if isinstance(error, FileFaultError):
            advice = f"{_FILE_ADVICE}, then send SIGHUP" if goes_on else _FILE_ADVICE
        what = problem(self._name, error)
        with self._lock:
            now = self._clock()
            if now - self._failed_at > _QUIET_S:
                self._reported.clear()
            self._failed_at = now
            if (goes_on, what) in self._reported:
                return None
            self._reported.add((goes_on, what))
            self._down = self._down or not goes_on
        if goes_on:
            # The output goes on with what it has open.
            return f"output {what}; {advice}; not opened again"
        return f"output {what}; {advice}; its lines wait"

    def worked(self) -> str | None:
        """The line to report when lines were written; None if no failure was reported before."""
        with self._lock:
            was_down, self._down = self._down, False
        if not was_down:
            return None
        return f"output {self._name}: works again"


def problem(name: str, error: OSError) -> str:
    """What failed and why, as one text for the operator."""
    return f"{name}: {error.strerror or error}"
