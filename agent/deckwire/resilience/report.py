"""One-line reports for the operator."""

from __future__ import annotations

import sys
from contextlib import suppress


def report(line: str) -> None:
    """Print one line on stderr; stdout is for events alone."""
    # Nobody may read stderr, its disk may be full, or it may be closed: that ends no capture.
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(f"deckwire: {line}", file=sys.stderr, flush=True)
