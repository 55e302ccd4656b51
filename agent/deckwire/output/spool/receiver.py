"""What the courier needs of a receiver that acknowledges lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from deckwire.output.spool.spool import SpooledLine


class RefusedError(Exception):
    """The receiver will never take these lines; it may take the ones after them."""

    def __init__(self, through: int, reason: str) -> None:
        """`through` is the number of the last line that was refused."""
        super().__init__(reason)
        self.through = through


class BusyError(OSError):
    """The receiver asks to wait."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        """`seconds` is how long to wait, if the receiver said so."""
        super().__init__(reason)
        self.seconds = seconds


class Receiver(Protocol):
    """One receiver. All methods raise OSError if the receiver is away or refuses to work."""

    window: int
    """Lines that may be sent and not acknowledged."""

    def connect(self) -> None:
        """Connect, if that is needed."""
        ...

    def send(self, lines: Sequence[SpooledLine]) -> None:
        """Send lines in order."""
        ...

    def acknowledged(self, seconds: float) -> int:
        """Number of the last line up to which all are acknowledged; 0 if none is.

        It waits up to so many seconds for news. Raises RefusedError too.
        """
        ...

    def close(self) -> None:
        """End the connection. Lines that were sent and not acknowledged will be sent again."""
        ...
