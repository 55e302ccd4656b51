"""A program that sends numbered lines through an acknowledged output, for tests that kill it.

Its arguments are OUTPUT FOLDER COUNT LEDGER, with the output as JSON. The lines below COUNT that
the ledger does not have yet are offered in order. After each commit to the spool, the ledger gets
the numbers that were committed. The ledger is the proof of what was promised.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.http import HttpSink, Url
from deckwire.output.sinks.relp import RelpSink
from deckwire.output.sinks.spooled import SpooledSink, SpoolFolder
from deckwire.output.sinks.tls_client import TlsClient, TlsSettings
from deckwire.output.spool.spool import Spool

_STEP = 50
"""Lines offered in 10 ms at most: the kills must come while lines are being sent."""


def line(number: int) -> bytes:
    """A line like the agent's, with its number at the end."""
    return b"<134>1 2026-11-24T03:01:26.453503+00:00 decky-01 sniffer - test - %07d" % number


def number_of(text: bytes) -> int:
    """The number of a line."""
    return int(text[-7:])


class LedgerSpool(Spool):
    """Writes down what it has committed."""

    ledger = -1

    def append(self, lines: Sequence[bytes]) -> int:
        """Commit, then write to the ledger."""
        count = super().append(lines)
        if count:
            text = b"".join(b"%07d\n" % number_of(one) for one in lines[:count])
            os.write(self.ledger, text)
        return count


def open_output(described: str, folder: str) -> SpooledSink:
    """The output that the test described as JSON."""
    settings = json.loads(described)
    host, port = "127.0.0.1", settings["port"]
    if settings["kind"] == "relp":
        return RelpSink(host, port, SpoolFolder(folder))
    tls = TlsClient(TlsSettings(ca=settings["ca"], name=settings["name"]), host)
    return HttpSink(Url(host, port, "/events"), SpoolFolder(folder), tls)


def is_empty(sink: SpooledSink) -> bool:
    """Whether all is acknowledged, what was found in the spool at the start included."""
    return sink._carried and not sink.counters().queued and not sink.more_sums()["spooled"]


def main(described: str, folder: str, count: int, ledger: str) -> None:
    """Offer what is missing, and end when all of it is acknowledged."""
    LedgerSpool.ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    done = Path(ledger).read_bytes().split()
    sink = open_output(described, folder)
    sink._spool.__class__ = LedgerSpool
    sink.start()
    number = int(done[-1]) + 1 if done else 0
    while number < count or not is_empty(sink):
        free = min(sink.room, count - number, _STEP)
        sink.offer_all([line(number + n) for n in range(free)])
        number += free
        time.sleep(0.01)
    sink.close(PATIENCE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
