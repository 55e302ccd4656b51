"""Attaches in the agent's own process, which needs no capability where the kernel has TCX."""

from __future__ import annotations

from typing import Any

from deckwire.kernel.loader_process import LoadError
from deckwire.kernel.loading import Reply
from deckwire.kernel.namespace_thread import NamespaceThread
from deckwire.loader.again import attach_again
from deckwire.loader.errors import LoaderError


class AttachingHere:
    """Attaches by TCX links. They go with their descriptors, so detaching needs no request."""

    def __init__(self, place: NamespaceThread | None) -> None:
        """`place` is in the network namespace of the interfaces; None: the process itself is."""
        self._place = place

    def ask(self, body: dict[str, Any], fds: list[int], _seconds: float | None = None) -> Reply:
        """Attach: see `deckwire.kernel.loading.reattach`. Raises LoadError."""

        def attach() -> Reply:
            return attach_again(body, fds, None)

        try:
            return attach() if self._place is None else self._place.run(attach)
        except LoaderError as error:
            raise LoadError(str(error), passing=error.passing) from error
        except OSError as error:
            raise LoadError(f"cannot attach: {error.strerror or error}", passing=True) from error

    def close(self) -> None:
        """The thread of the namespace ends with the process."""
