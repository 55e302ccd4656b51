"""Errors that end a command with one line for the user, and how that line shows wrong values.

Every other module may import this one, so it imports nothing. A line reads ``what: why; what to
do``.
"""

from __future__ import annotations


class UsageError(Exception):
    """What the user asked for cannot be done; the text is the line to print."""

    status = 2
    """Exit status. With 2 the next try fails as well, until somebody changes something."""


class PassingError(UsageError):
    """The same, but the next try may succeed although nobody changes anything."""

    status = 1


_SHOWN_LENGTH = 60
"""Characters of a wrong value that a line repeats."""


def shown(value: object) -> str:
    """A wrong value as Python would write it: one line of ASCII, cut if it is long."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "..."


def plain(text: str) -> str:
    """A path or key, whole and without quotes: one line of ASCII, control characters escaped."""
    return ascii(text)[1:-1]
