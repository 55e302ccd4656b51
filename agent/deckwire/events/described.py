"""What was described before, by the very object: hellos that are alike are one object."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from deckwire.limits import DESCRIBED_CACHE, HELLO_CACHED_BYTES
from deckwire.tls.messages import Hello

H = TypeVar("H", bound=Hello)
D = TypeVar("D")


class Described(Generic[H, D]):
    """`describe`, remembering its last results as long as their hellos live here.

    By identity, for tls/hello_cache.py gives one object for all hellos of a kind: a look-up costs
    nothing, and can never confuse two. Bounded by DESCRIBED_CACHE entries, none of which is longer
    than HELLO_CACHED_BYTES.
    """

    def __init__(self, describe: Callable[[H], D], entries: int = DESCRIBED_CACHE) -> None:
        self._describe = describe
        self._entries = entries
        self._known: OrderedDict[int, tuple[H, D]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, hello: H) -> D:
        """The description of a hello."""
        known = self._known.get(id(hello))
        # An id is unique among living objects only, and what is kept here lives.
        if known is not None:
            self._known.move_to_end(id(hello))
            return known[1]
        described = self._describe(hello)
        if hello.size <= HELLO_CACHED_BYTES:
            self._known[id(hello)] = hello, described
            if len(self._known) > self._entries:
                self._known.popitem(last=False)
        return described
