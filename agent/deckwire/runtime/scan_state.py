"""The file of scans under way, so that a slow scan is one scan over a restart."""

from __future__ import annotations

import os
import time

from deckwire.clock import Clock
from deckwire.errors import plain
from deckwire.limits import SCANS_FILE_BYTES
from deckwire.pipeline.scanning import Scanning
from deckwire.resilience.report import report
from deckwire.runtime.status import write_atomically
from deckwire.scans.memory import ForeignMemory, dump, load

NAME = "scans.json"
"""The file's name in the state directory."""
INTERVAL_S = 300.0
"""Seconds between two writings, for the case that the agent is killed."""


class ScanState:
    """Reads the file at the start, and writes it now and then and at the end."""

    def __init__(self, folder: str, scanning: Scanning, clock: Clock) -> None:
        self._path = os.path.join(folder, NAME)
        self._scanning = scanning
        self._clock = clock
        self._next = time.monotonic() + INTERVAL_S
        self._has_failed = False

    def read(self) -> None:
        """Go on with the scans of the agent before. A file that cannot be read is reported."""
        try:
            with open(self._path, "rb") as file:
                content = file.read(SCANS_FILE_BYTES + 1)
            if len(content) > SCANS_FILE_BYTES:
                raise ForeignMemory(f"it is larger than {SCANS_FILE_BYTES} bytes")
            now_ns = self._clock.now_ns()
            offset_ns = self._clock.wall_ns(now_ns) - now_ns
            # A wall clock that was set back must not let a scan wait for a future that is far off.
            scans, faults = load(content, lambda wall_ns: min(wall_ns - offset_ns, now_ns))
        except FileNotFoundError:
            return
        except ForeignMemory as error:
            self._report(f"{error}; scans from before the start are new ones")
            return
        except OSError as error:
            self._report(f"{error.strerror}; scans from before the start are new ones")
            return
        if faults:
            self._report(f"{faults} of its scans cannot be read; they are new ones")
        self._scanning.restore(scans)

    def write_if_due(self) -> None:
        """Write the file if the last time was long ago."""
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> bool:
        """Write the file; whether that worked. The first failure is reported."""
        self._next = time.monotonic() + INTERVAL_S
        try:
            write_atomically(self._path, dump(self._scanning.scans(), self._clock.wall_ns))
        except OSError as error:
            if not self._has_failed:
                self._report(f"{error.strerror}; make it writable; trying again")
            self._has_failed = True
            return False
        self._has_failed = False
        return True

    def suspend(self) -> None:
        """Leave the scans to the next agent; if that fails, they end with this one."""
        self._scanning.look()
        if self.write():
            self._scanning.suspend()

    def _report(self, what: str) -> None:
        report(f"{plain(self._path)}: {what}")
