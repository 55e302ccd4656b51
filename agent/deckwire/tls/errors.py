"""The one exception of the TLS parsers."""

from __future__ import annotations


class Malformed(Exception):
    """Bytes that are no instance of what they were to be parsed as; `reason` is short text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
