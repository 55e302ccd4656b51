"""Exceptions that must not end the capture: counted by where they happen, each reported once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from deckwire.errors import plain
from deckwire.limits import FAILURE_KINDS, FAILURE_TEXT


class Where(StrEnum):
    """The step that failed: a counter of capture_stats and a cause of capture_loss."""

    SAMPLE = "samples_failed"
    """Taking one sample. Its events are missing."""
    RINGS = "failures_rings"
    """Reading the rings."""
    OUTPUT = "failures_output"
    """Writing one event, or closing the outputs."""
    END = "failures_end"
    """Ending one connection. Its events are missing, those of others are not."""
    SWEEP = "failures_sweep"
    """Sweeping the tables. The next sweep begins anew."""
    SCANS = "failures_scans"
    """Following scans. The next look at the kernel's records begins anew."""
    DUE = "failures_due"
    """Emitting what was due: verdicts about scans, summaries of dedup windows."""
    INTERFACES = "failures_interfaces"
    """Following interfaces that go and come back."""
    RELOAD = "failures_reload"
    """Reading the settings or the deckies again, or reopening the outputs."""
    STATS = "failures_stats"
    """Reading the clock, or emitting capture_stats, capture_loss and capture_budget."""
    SHUTDOWN = "failures_shutdown"
    """Detaching and closing."""


class Containment:
    """Catches the exceptions of steps that the capture can do without. For one thread."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """`report` prints a line for the operator."""
        self.counts: Counter[str] = Counter()
        """Exceptions by Where."""
        self._report = report
        self._reported: set[tuple[str, str, str]] = set()
        # They have no state. Each connection passes some, so none is made anew.
        self._steps = {where: _Step(self, where) for where in Where}

    def during(self, where: Where) -> _Step:
        """Catch and count an exception of the block: it ends the block and nothing else."""
        return self._steps[where]

    def failed(self, where: Where, error: Exception) -> None:
        """Count an exception, and report it if it is the first of its type at its line of code."""
        self.counts[where] += 1
        kind = where, type(error).__name__, _origin(error)
        if kind in self._reported or len(self._reported) >= FAILURE_KINDS:
            return
        self._reported.add(kind)
        # The text may repeat what a peer sent.
        text = plain(str(error))[:FAILURE_TEXT]
        self._report(
            f"{where}: {kind[1]}: {text} ({kind[2]}): a bug in Deckwire, the capture goes on;"
            " please report this line, repeats are only counted"
        )


class _Step:
    """The context of a block whose exceptions are contained."""

    __slots__ = ("_containment", "_where")

    def __init__(self, containment: Containment, where: Where) -> None:
        self._containment = containment
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._containment.failed(self._where, error)
        return True


def _origin(error: Exception) -> str:
    """The file and line that raised it; ``?`` if it was never raised."""
    trace = error.__traceback__
    if trace is None:
        return "?"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
