"""The ClientHellos of the kernel's signatures, for connections whose hello it suppressed."""

from __future__ import annotations

from deckwire.limits import EMITTED_HELLO_BYTES, EMITTED_HELLOS, EMITTED_HELLOS_BYTES
from deckwire.resilience.sized_cache import SizedCache
from deckwire.tls.messages import ClientHello


class EmittedHellos:
    """The ClientHello that was emitted last for each of the kernel's signatures.

    Bounded by EMITTED_HELLOS and EMITTED_HELLOS_BYTES: the least recently used one is evicted. The
    kernel hashes no hello of more than HELLO_BYTES (bpf/limits.h).
    """

    def __init__(self) -> None:
        self._hellos: SizedCache[int, ClientHello] = SizedCache(
            EMITTED_HELLOS, EMITTED_HELLOS_BYTES
        )

    def __len__(self) -> int:
        return len(self._hellos)

    def remember(self, signature: int, hello: ClientHello) -> bool:
        """Keep what a signature stands for; False if it takes more than EMITTED_HELLO_BYTES."""
        size = hello.memory
        return size <= EMITTED_HELLO_BYTES and self._hellos.keep(signature, hello, size)

    def recall(self, signature: int) -> ClientHello | None:
        """A hello that is equal in all that is emitted of one; None if it was evicted."""
        return self._hellos.get(signature)
