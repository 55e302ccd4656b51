"""What a user is told in one line. Everything imports it, so it imports nothing."""

from __future__ import annotations


class UsageError(Exception):
    """What the user asked for cannot be done; the text is one line: what, where, what to do."""

    status = 2
    """Exit status. With 2 the next attempt fails as well: somebody has to change something."""


class PassingError(UsageError):
    """The same, but the next attempt may succeed although nobody changes anything."""

    status = 1
