"""What can fail while starting, turned into the one line that a user sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deckwire.kernel.loading import LoadError


class UsageError(Exception):
    """What the user asked for cannot be done; the text is one line: what, where, what to do."""


@contextmanager
def failing() -> Iterator[None]:
    """Turns the errors of starting into UsageError.

    Raises:
        UsageError: instead of what was raised inside.
    """
    try:
        yield
    except (LoadError, ValueError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise UsageError(f"{what}{error.strerror or error}") from error
