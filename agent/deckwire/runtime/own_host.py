"""Keeps the kernel informed of the host's own addresses while the agent runs."""

from __future__ import annotations

from collections.abc import Collection

from deckwire.kernel.own_host import OwnHost, OwnHostReader
from deckwire.pipeline.dispatch import Pipeline
from deckwire.resilience.report import report
from deckwire.tables.own_host import OwnHostTables

INTERVAL_S = 10.0
"""Seconds between two looks while no interface changes. Addresses alone may change too."""


class OwnHostWatch:
    """Has the host's own connections ignored. For the capture's thread."""

    def __init__(self, reader: OwnHostReader, tables: OwnHostTables, pipeline: Pipeline) -> None:
        self._reader = reader
        self._tables = tables
        self._pipeline = pipeline
        self._written: OwnHost | None = None
        self._next_look = 0.0
        self._left_out = 0

    def look(self, now_s: float, targets: Collection[int], *, at_once: bool = False) -> None:
        """Write the addresses to the kernel if they changed, every INTERVAL_S or `at_once`.

        A decky's address is never the host's own, even if this namespace has it.

        Raises:
            OSError: the addresses could not be read or written; the ones before stay.
        """
        if now_s < self._next_look and not at_once:
            return
        self._next_look = now_s + INTERVAL_S
        found = self._reader.read(targets)
        own = OwnHost(found.addresses - self._pipeline.registry.addresses, found.macs)
        if own == self._written:
            return
        left_out = self._tables.replace(own.addresses, own.macs)
        self._pipeline.ignore_peers(own.addresses)
        self._written = own
        if left_out > self._left_out:
            self._left_out = left_out
            report(
                f"{left_out} addresses of this host find no room in the kernel's tables:"
                " connections from them are reported as an attacker's"
            )

    def close(self) -> None:
        """Close the socket."""
        self._reader.close()
