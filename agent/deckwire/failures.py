"""What can fail while starting, turned into the one line that a user sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deckwire.kernel.loader_process import LoadError
from deckwire.usage import UsageError


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
