"""The error with which the loader refuses a request, and the reply that it makes."""

from __future__ import annotations

from collections.abc import Callable
from errno import ENFILE, ENODEV, ENOMEM
from typing import Any

Reply = tuple[dict[str, Any], list[int]]
"""The body of a reply, and its descriptors."""

_PASSING = (ENOMEM, ENFILE, ENODEV)
"""Errors that can pass by themselves: memory or files are short, an interface has just gone."""


class LoaderError(Exception):
    """One line for the user: ``what: why; what to do``."""

    def __init__(self, line: str, *, passing: bool = False) -> None:
        super().__init__(line)
        self.passing = passing
        """The next attempt may succeed although nobody changes anything."""


def answered(what: str, serve: Callable[[], Reply]) -> Reply:
    """What `serve` returns, or the reply for the error that it raises. `what` names the request."""
    try:
        return serve()
    except LoaderError as error:
        return {"error": str(error), "passing": error.passing}, []
    except OSError as error:
        line = f"cannot {what}: {error.strerror or error}"
        return {"error": line, "passing": error.errno in _PASSING}, []
