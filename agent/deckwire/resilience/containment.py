"""Mistakes of ours that must not end the capture: counted by where they happen, reported once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from deckwire.errors import plain
from deckwire.limits import FAILURE_KINDS, FAILURE_TEXT


class Where(StrEnum):
    """What the agent was at; the counter of capture_stats and the cause of capture_loss."""

    SAMPLE = "samples_failed"
    """One sample: what it was to tell is missing."""
    RINGS = "failures_rings"
    """Reading the rings."""
    OUTPUT = "failures_output"
    """Writing one event, or ending the outputs."""
    END = "failures_end"
    """The end of one connection: its event is missing, not that of any other."""
    SWEEP = "failures_sweep"
    """Looking through the tables; the next sweep begins anew."""
    DUE = "failures_due"
    """What waited for its time: verdicts about scans, dedup windows."""
    INTERFACES = "failures_interfaces"
    """Following interfaces that go and come back."""
    RELOAD = "failures_reload"
    """Reading the deckies again, reopening the outputs."""
    STATS = "failures_stats"
    """The clock, capture_stats, capture_loss and capture_budget."""
    SHUTDOWN = "failures_shutdown"
    """Detaching and closing."""


class Containment:
    """Takes exceptions of steps without which the capture goes on. For one thread."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """`report` takes a line for the operator."""
        self.counts: Counter[str] = Counter()
        """By Where."""
        self._report = report
        self._reported: set[tuple[str, str, str]] = set()

    @contextmanager
    def during(self, where: Where) -> Iterator[None]:
        """What is raised inside ends what is inside, and nothing else."""
        try:
            yield
        except Exception as error:
            self.failed(where, error)

    def failed(self, where: Where, error: Exception) -> None:
        """Take an exception; the first of its kind is reported: of a place, and of a type."""
        self.counts[where] += 1
        kind = where, type(error).__name__, _context(error)
        if kind in self._reported or len(self._reported) >= FAILURE_KINDS:
            return
        self._reported.add(kind)
        # The text may repeat what a peer sent.
        text = plain(str(error))[:FAILURE_TEXT]
        self._report(
            f"a mistake of ours was survived, please report it: {where}: {kind[1]}: {text}"
            f" ({kind[2]}); further ones are only counted"
        )


def _context(error: Exception) -> str:
    """File and line that raised it."""
    trace = error.__traceback__
    if trace is None:
        return "?"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
