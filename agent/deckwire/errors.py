"""What a user is told in one line. Everything imports it, so it imports nothing."""

from __future__ import annotations


class UsageError(Exception):
    """What the user asked for cannot be done; the text is one line: what, where, what to do."""

    status = 2
    """Exit status. With 2 the next attempt fails as well: somebody has to change something."""


class PassingError(UsageError):
    """The same, but the next attempt may succeed although nobody changes anything."""

    status = 1


SHOWN_LENGTH = 60
"""Characters of a wrong value that a message repeats."""


def shown(value: object) -> str:
    """A wrong value as Python would write it, cut where it is long."""
    text = ascii(value)
    return text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "..."


def plain(text: str) -> str:
    """A path or key that leads a message: whole and without quotes, control characters escaped."""
    return ascii(text)[1:-1]
