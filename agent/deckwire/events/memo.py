"""A bounded memo of described objects, keyed by identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from deckwire.limits import DESCRIBED_BYTES, DESCRIBED_CACHE
from deckwire.resilience.sized_cache import SizedCache

K = TypeVar("K")
D = TypeVar("D")


class Described(Generic[K, D]):
    """Calls `describe` and keeps its last results, with the objects that they describe.

    The key is the identity of the object. Hello cache, certificate cache and fingerprints give one
    object for all equal values, so a look-up is cheap and never confuses two objects.

    Bounds are DESCRIBED_CACHE entries and DESCRIBED_BYTES. `memory` says how many bytes an object
    takes with its fields. An object that `keeps` refuses is never stored.
    """

    def __init__(
        self,
        describe: Callable[..., D],
        keeps: Callable[[K], bool] = lambda _: True,
        memory: Callable[[K], int] = lambda _: 0,
        entries: int = DESCRIBED_CACHE,
    ) -> None:
        self._describe = describe
        self._keeps = keeps
        self._memory = memory
        self._known: SizedCache[int, tuple[K, D]] = SizedCache(entries, DESCRIBED_BYTES)
        self._last: tuple[K, D] | None = None
        """What was found last, even if it was evicted since."""

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, thing: K, *more: Any) -> D:
        """Return `describe(thing, *more)`. `more` must be equal for equal things."""
        last = self._last
        if last is not None and last[0] is thing:
            # A hello is looked up twice: for its own event and for the session's.
            return last[1]
        known = self._known.get(id(thing))
        # An id is unique only among living objects. The memo keeps its objects alive.
        if known is not None:
            self._last = known
            return known[1]
        described = self._describe(thing, *more)
        if self._keeps(thing):
            self._known.keep(id(thing), (thing, described), self._memory(thing))
        return described
