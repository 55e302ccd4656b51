"""Turns errors at the start into the one line that a user sees."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from deckwire.errors import PassingError, UsageError
from deckwire.kernel.loader_process import LoadError

PASSING = frozenset(
    {
        *(errno.EAGAIN, errno.EINTR, errno.EIO, errno.ETIMEDOUT),
        *(errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT),
    }
)
"""System errors that may be over when the user tries again."""


@contextmanager
def failing() -> Iterator[None]:
    """Turn errors at the start into UsageError, or into PassingError if trying again may help.

    Raises:
        UsageError: instead of what was raised inside.
    """
    try:
        yield
    except LoadError as error:
        raise (PassingError if error.passing else UsageError)(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        line = f"{what}{error.strerror or error}"
        raise (PassingError if error.errno in PASSING else UsageError)(line) from error
