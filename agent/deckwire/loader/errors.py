"""The error with which the loader refuses a request."""

from __future__ import annotations


class LoaderError(Exception):
    """One line for the user: ``what: why; what to do``."""

    def __init__(self, line: str, *, passing: bool = False) -> None:
        super().__init__(line)
        self.passing = passing
        """The next attempt may succeed although nobody changes anything."""
