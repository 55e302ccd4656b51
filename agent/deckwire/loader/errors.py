"""What keeps the loader from its work."""

from __future__ import annotations


class LoaderError(Exception):
    """One line for the user: what, where, what to do."""

    def __init__(self, line: str, *, passing: bool = False) -> None:
        super().__init__(line)
        self.passing = passing
        """The next attempt may succeed although nobody changes anything."""
