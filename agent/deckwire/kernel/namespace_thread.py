"""A thread that stays in a network namespace after the process has lost the right to enter it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from deckwire.kernel import namespaces

T = TypeVar("T")


class NamespaceThread:
    """Runs functions in a network namespace, one at a time, for one caller.

    It ends with the process.
    """

    def __init__(self, netns: str) -> None:
        """Enter the namespace: a name in /run/netns or a path. Raises OSError."""
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._serve, name=f"netns {netns}", daemon=True).start()

        def enter() -> None:
            with open(namespaces.path_of(netns), "rb") as namespace:
                namespaces.enter(namespace.fileno())

        self.run(enter)

    def run(self, function: Callable[[], T]) -> T:
        """Call the function there: its result, or what it raises."""
        results: SimpleQueue[tuple[list[T], BaseException | None]] = SimpleQueue()

        def work() -> None:
            try:
                results.put(([function()], None))
            except BaseException as error:  # raised again in the caller's thread
                results.put(([], error))

        self._work.put(work)
        values, error = results.get()
        if error is not None:
            raise error
        (value,) = values
        return value

    def _serve(self) -> None:
        while True:
            self._work.get()()
