"""What a test of anything but the containment itself wants: every exception ends it."""

from __future__ import annotations

from deckwire.resilience.containment import Containment, Where


class Uncontained(Containment):
    """Raises what it is to take."""

    def __init__(self) -> None:
        super().__init__(print)

    def failed(self, where: Where, error: Exception) -> None:
        super().failed(where, error)
        raise error
