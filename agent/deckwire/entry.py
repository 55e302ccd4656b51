"""Where the process begins: the signals first, then everything that takes time to import."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The console script."""
    if sys.argv[1:2] != ["run"]:
        _main()
    from deckwire import signals  # noqa: PLC0415 - the other commands leave signals alone

    signals.arm()
    try:
        _main()
    finally:
        signals.disarm()


def _main() -> NoReturn:
    from deckwire.cli import main as command_line  # noqa: PLC0415 - 50 ms, see above

    command_line()
