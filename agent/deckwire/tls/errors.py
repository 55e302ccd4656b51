"""The exception that the TLS parsers raise."""

from __future__ import annotations


class Malformed(Exception):
    """Bytes that do not follow the expected format; `reason` is a short text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
