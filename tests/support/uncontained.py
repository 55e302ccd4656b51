"""A containment for tests that contains nothing: every exception ends the test."""

from __future__ import annotations

from deckwire.resilience.containment import Containment, Where


class Uncontained(Containment):
    """Raises every exception that it should contain."""

    def __init__(self) -> None:
        super().__init__(print)

    def failed(self, where: Where, error: Exception) -> None:
        super().failed(where, error)
        raise error
