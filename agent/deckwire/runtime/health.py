"""What is wrong now: for the service manager, `deckwire status` and Prometheus."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from deckwire import __version__
from deckwire.errors import plain
from deckwire.resilience.report import report
from deckwire.runtime.metrics import exposition
from deckwire.runtime.service_manager import ServiceManager
from deckwire.runtime.status import (
    INTERVAL_S,
    Status,
    growth,
    remove_status,
    write_atomically,
    write_status,
)

Look = Callable[[], tuple[int, Mapping[str, str], Mapping[str, str]]]
"""Number of deckies; interfaces and how each is attached; outputs and how each fails."""
MISSING = "missing"
"""How an interface is attached that is not there."""


class Health:
    """Writes the status every INTERVAL_S, and at once when something changes."""

    def __init__(
        self,
        look: Look,
        sums: Callable[[], Mapping[str, int]],
        losses: Callable[[], Mapping[str, int]],
        *,
        runtime_dir: str | None,
        metrics: str | None,
    ) -> None:
        """`runtime_dir` gets the status, `metrics` is the path of the Prometheus file."""
        self._look = look
        self._sums = sums
        self._losses = losses
        self._runtime_dir = runtime_dir
        self._metrics = metrics
        self._manager = ServiceManager()
        self._since = time.time()
        self._next = 0.0
        self._lost: Mapping[str, int] = {}
        self._failed: set[str] = set()

    def started(self) -> None:
        """The agent watches, or waits for its interfaces."""
        self._manager.ready(self._write().sentence())

    def reloading(self) -> None:
        """A reload begins; `started` ends it."""
        self._manager.reloading()

    def round(self) -> None:
        """One round of the loop was run."""
        self._manager.alive()
        if time.monotonic() >= self._next:
            self._manager.status(self._write().sentence())

    def changed(self) -> None:
        """Write with the next round."""
        self._next = 0.0

    def write_metrics_to(self, path: str | None) -> None:
        """Write them there with the next round, and no longer where they were before."""
        if path != self._metrics:
            self._remove_metrics()
            self._metrics = path
            self.changed()

    def stopping(self) -> None:
        """The end begins. A status would say that the agent runs, so the files go."""
        self._manager.stopping()
        if self._runtime_dir is not None:
            remove_status(self._runtime_dir)
        self._remove_metrics()

    def _remove_metrics(self) -> None:
        if self._metrics is not None:
            with suppress(OSError):
                os.unlink(self._metrics)

    def _write(self) -> Status:
        self._next = time.monotonic() + INTERVAL_S
        status = self._status()
        if self._runtime_dir is not None:
            self._try(self._runtime_dir, lambda folder: write_status(folder, status))
        if self._metrics is not None:
            self._try(self._metrics, lambda path: write_atomically(path, exposition(status)))
        return status

    def _status(self) -> Status:
        deckies, interfaces, outputs = self._look()
        losses = dict(self._losses())
        lost = growth(losses, self._lost)
        self._lost = losses
        problems = [f"{name} is {how}" for name, how in interfaces.items() if how == MISSING]
        problems += [f"output {failure}" for failure in outputs.values() if failure]
        problems += [f"lost since the last look: {count} {cause}" for cause, count in lost.items()]
        return Status(
            version=__version__,
            pid=os.getpid(),
            time=time.time(),
            since=self._since,
            deckies=deckies,
            interfaces=dict(interfaces),
            outputs=dict(outputs),
            problems=problems,
            counters=dict(self._sums()),
        )

    def _try(self, path: str, write: Callable[[str], None]) -> None:
        """Write; report the first failure of each path."""
        try:
            write(path)
        except OSError as error:
            if path not in self._failed:
                self._failed.add(path)
                report(f"{plain(path)}: {error.strerror}; make it writable; trying again")
        else:
            self._failed.discard(path)
