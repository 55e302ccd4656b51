"""Where the process begins: first the signals, then everything that takes time to import."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; `deckwire run` remembers signals from here on."""
    if sys.argv[1:2] != ["run"]:
        _main()
    from deckwire.kernel import signals  # noqa: PLC0415 - other commands leave signals alone

    signals.arm()
    try:
        _main()
    finally:
        signals.disarm()


def _main() -> NoReturn:
    from deckwire.cli import main as command_line  # noqa: PLC0415 - takes 50 ms

    command_line()
