"""The written lines that the receiver may not have."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from deckwire.limits import SINK_UNCONFIRMED


class UnconfirmedLines:
    """Keeps the position where each line ends, until the line is confirmed.

    A kernel reports how many bytes it still holds, not which lines. The writer must not write more
    than `room` lines, so a receiver that confirms nothing cannot make this grow.
    """

    def __init__(self) -> None:
        self._ends: deque[int] = deque()
        self._end = 0
        self.lines = 0
        """Lines written since the start."""

    @property
    def room(self) -> int:
        """Lines that may be added."""
        return SINK_UNCONFIRMED - len(self._ends)

    @property
    def unconfirmed(self) -> int:
        """Lines not confirmed yet."""
        return len(self._ends)

    @property
    def confirmed(self) -> int:
        """Lines confirmed since the start."""
        return self.lines - len(self._ends)

    def add(self, sizes: Iterable[int]) -> None:
        """Add lines that were written whole, by size: the bytes the kernel counts, or fewer."""
        for size in sizes:
            self._end += size
            self._ends.append(self._end)
            self.lines += 1

    def confirm(self, outstanding: int, begun: int = 0) -> None:
        """Confirm all lines except those that reach into the last `outstanding` bytes.

        `begun` bytes were written after the last whole line. If the kernel counts more bytes than
        the lines have, more lines stay unconfirmed than need be, never fewer.
        """
        sure = self._end + begun - outstanding
        while self._ends and self._ends[0] <= sure:
            self._ends.popleft()
