"""What was described before, by the very object: things that are alike are one object here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from deckwire.limits import DESCRIBED_BYTES, DESCRIBED_CACHE
from deckwire.resilience.sized_cache import Bounded

K = TypeVar("K")
D = TypeVar("D")


class Described(Generic[K, D]):
    """`describe`, remembering its last results as long as what they describe lives here.

    By identity: tls/hello_cache.py gives one object for all hellos of a kind, as fingerprints and
    the cache of certificates do. So a look-up costs nothing, and can never confuse two. Bounded by
    DESCRIBED_CACHE entries, none of a thing that `keeps` refuses, and by DESCRIBED_BYTES, of which
    a thing with its fields takes what `memory` says.
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
        self._known: Bounded[int, tuple[K, D]] = Bounded(entries, DESCRIBED_BYTES)
        self._last: tuple[K, D] | None = None
        """What was found last; it may have made room meanwhile."""

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, thing: K, *more: Any) -> D:
        """`describe(thing, *more)`; of a thing that is known `more` may say nothing new."""
        last = self._last
        if last is not None and last[0] is thing:
            # A hello is asked for twice, for its own event and for the session's.
            return last[1]
        known = self._known.get(id(thing))
        # An id is unique among living objects only, and what is kept here lives.
        if known is not None:
            self._last = known
            return known[1]
        described = self._describe(thing, *more)
        if self._keeps(thing):
            self._known.keep(id(thing), (thing, described), self._memory(thing))
        return described
