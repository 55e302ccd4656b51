"""What the operator is told beside the events."""

from __future__ import annotations

import sys
from contextlib import suppress


def report(line: str) -> None:
    """One line on stderr; stdout is for events alone."""
    # Nobody reads it any more, or the disk is full: no reason to end a capture.
    with suppress(OSError, ValueError):
        print(f"deckwire: {line}", file=sys.stderr, flush=True)
