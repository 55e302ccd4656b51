"""The first bytes of SSH behind the kernel's signatures, for heads that it suppressed in part."""

from __future__ import annotations

from deckwire.limits import EMITTED_HEADS, EMITTED_HEADS_BYTES
from deckwire.resilience.sized_cache import SizedCache

_ENTRY_BYTES = 100
"""Memory of an entry without its bytes, about."""


class EmittedHeads:
    """What an end had sent up to each of the kernel's signatures, of heads that were emitted.

    The bytes are equal to those that were suppressed, but for a KEXINIT's cookie and padding.
    Bounded by EMITTED_HEADS and EMITTED_HEADS_BYTES: the least recently used ones are evicted.
    """

    def __init__(self) -> None:
        self._heads: SizedCache[int, bytes] = SizedCache(EMITTED_HEADS, EMITTED_HEADS_BYTES)

    def __len__(self) -> int:
        return len(self._heads)

    def remember(self, signature: int, head: bytes) -> bool:
        """Keep what a signature stands for; False if there is no room for it."""
        return self._heads.keep(signature, head, _ENTRY_BYTES + len(head))

    def recall(self, signature: int) -> bytes | None:
        """The bytes; None if they were evicted."""
        return self._heads.get(signature)
