"""ClientHellos that the kernel hid because the agent had told them: which they were."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from deckwire.abi.hashes import absorb
from deckwire.limits import EMITTED_HELLOS, TOLD_HELLO_BYTES, TOLD_HELLOS_BYTES
from deckwire.resilience.sized_cache import Bounded
from deckwire.tls.messages import SESSION_ID_BYTES, ClientHello

_WORDS = Struct(f"<{SESSION_ID_BYTES // 8}Q")


class SuppressedHello(NamedTuple):
    """What the kernel keeps of a ClientHello that it sent no sample of."""

    signature: int
    """The seeded hash of it and its sender."""
    session_id: int
    """The seeded hash of its session id; 0 if it has none."""
    end_seq: int
    """Sequence number of the byte behind it."""
    seed: int

    def has_session_id(self, session_id: bytes) -> bool:
        """Whether that is its session id, not an empty one."""
        return bool(session_id) and session_id_hash(session_id, self.seed) == self.session_id


class EmittedHellos:
    """ClientHellos by the kernel's signature, as the agent told them last; the oldest makes room.

    Bounded by EMITTED_HELLOS and TOLD_HELLOS_BYTES; the kernel hashes no hello of more than
    HELLO_BYTES (bpf/limits.h).
    """

    def __init__(self) -> None:
        self._hellos: Bounded[int, ClientHello] = Bounded(EMITTED_HELLOS, TOLD_HELLOS_BYTES)

    def __len__(self) -> int:
        return len(self._hellos)

    def remember(self, signature: int, hello: ClientHello) -> bool:
        """Keep what a signature stands for; False if it takes more than TOLD_HELLO_BYTES."""
        size = hello.memory
        return size <= TOLD_HELLO_BYTES and self._hellos.keep(signature, hello, size)

    def recall(self, signature: int) -> ClientHello | None:
        """An equal hello in all that is told of one; None if it made room for others."""
        return self._hellos.get(signature)


def session_id_hash(session_id: bytes, seed: int) -> int:
    """session_id_hash() of bpf/hello.h, for at most SESSION_ID_BYTES."""
    value = absorb(seed, len(session_id))
    for word in _WORDS.unpack(session_id.ljust(SESSION_ID_BYTES, b"\0")):
        value = absorb(value, word)
    return value
