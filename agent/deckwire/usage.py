"""What a user is told in one line. Everything imports it, so it imports nothing."""

from __future__ import annotations


class UsageError(Exception):
    """What the user asked for cannot be done; the text is one line: what, where, what to do."""
