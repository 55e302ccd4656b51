"""Windows in which the kernel hides what was told: it sends no sample, it only counts.

Each table of the kernel is direct-mapped by signature and bounded: a slot that another signature
takes over hides nothing any more, and what comes then is deduplicated by the agent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from struct import Struct
from typing import Any, NamedTuple

from deckwire import abi
from deckwire.dedup import Key
from deckwire.flat import members
from deckwire.kernel.maps import Map
from deckwire.seeded_hash import absorb

SERVICE_HANDSHAKE, SERVICE_FLOW = 1, 2
"""enum service_event: completed handshakes, ends of connections."""

_SLOT = Struct("<I")
_WORDS = Struct("<4I")
_EMPTY = bytes(abi.SEEN.size)
_COUNT = members(abi.SCHEMAS["seen"], "signature", "suppressed")
_NOTHING_HIDDEN = (0, 0, 0, 0)
"""suppressed, first_ns, last_ns and deckies."""


class Hidden(NamedTuple):
    """What the kernel hid of one signature; kernel times."""

    window: Key
    """The dedup window because of which it did."""
    events: int
    first_ns: int
    last_ns: int
    deckies: int
    """A bit set of hashed deckies."""


class Suppression:
    """The open windows of one of the kernel's tables (struct seen). For one thread."""

    def __init__(self, table: Map) -> None:
        self._table = table
        self._open: OrderedDict[int, tuple[int, Key]] = OrderedDict()
        self._due: list[tuple[int, int]] = []
        """A heap of ends and signatures: windows of the dedup that told first end first, but a
        signature can join one late. Of those that were closed or opened anew, old ends remain."""

    def __len__(self) -> int:
        return len(self._open)

    def hides(self, signature: int, time_ns: int) -> bool:
        """Whether the kernel was told to hide this signature at `time_ns`, and has counted it."""
        until = self._open.get(signature)
        return until is not None and time_ns < until[0]

    def open(self, signature: int, window: Key, until_ns: int) -> Sequence[Hidden]:
        """Have the kernel hide `signature` until `until_ns`, because `window` has told it.

        What it hid on its own before, and that of windows which make room for this one.
        """
        slot = self._slot(signature)
        before = self._table.lookup(slot) or _EMPTY
        known, suppressed = _COUNT.unpack_from(before)
        hidden: Sequence[Hidden] = ()
        if suppressed:
            if known == signature:
                hidden = _hidden(abi.SEEN.parse(before), window)
            elif known in self._open:
                hidden = _hidden(abi.SEEN.parse(before), self._open[known][1])
        self._table.update(slot, abi.SEEN.build((signature, until_ns, 1, *_NOTHING_HIDDEN)))
        self._open[signature] = until_ns, window
        heappush(self._due, (until_ns, signature))
        if len(self._due) > 2 * self._table.max_entries:
            self._due = [(until, opened) for opened, (until, _) in self._open.items()]
            heapify(self._due)
        if len(self._open) > self._table.max_entries:
            # Most of them were overwritten there.
            return [*hidden, *self.close(next(iter(self._open)))]
        return hidden

    def close(self, signature: int) -> Sequence[Hidden]:
        """Forget a window, if it is open; what was hidden because of it."""
        opened = self._open.pop(signature, None)
        return () if opened is None else self._take(signature, opened[1])

    def withdraw(self, signature: int) -> Sequence[Hidden]:
        """Have the kernel hide it no longer; what was hidden because of its window."""
        opened = self._open.pop(signature, None)
        slot = self._slot(signature)
        seen = abi.SEEN.parse(self._table.lookup(slot) or _EMPTY)
        if seen.signature != signature:
            return ()
        self._table.update(slot, _EMPTY)
        return _hidden(seen, opened[1]) if opened is not None and seen.suppressed else ()

    def over(self, now_ns: int | None) -> Iterator[Hidden]:
        """Close the windows that are over; None: all of them."""
        while self._due and (now_ns is None or self._due[0][0] <= now_ns):
            until_ns, signature = heappop(self._due)
            opened = self._open.get(signature)
            if opened is not None and opened[0] == until_ns:
                yield from self.close(signature)

    def _take(self, signature: int, window: Key) -> Sequence[Hidden]:
        slot = self._slot(signature)
        seen = abi.SEEN.parse(self._table.lookup(slot) or _EMPTY)
        if seen.signature != signature or not seen.suppressed:
            return ()
        self._table.update(slot, abi.SEEN.build(seen._replace(suppressed=0, deckies=0)))
        return _hidden(seen, window)

    def _slot(self, signature: int) -> bytes:
        return _SLOT.pack(signature >> 32 & self._table.max_entries - 1)


def service_signature(key: bytes, client: int, seed: int, event: int) -> int:
    """service_signature() of bpf/hash.h: the client and the service of a connection."""
    client &= 1
    value = seed
    for end in (client, 1 - client):
        first, second, third, fourth = _WORDS.unpack_from(key, 16 * end)
        value = absorb(absorb(value, first << 32 | second), third << 32 | fourth)
    at = 32 + 2 * (1 - client)
    port = int.from_bytes(key[at : at + 2], "little")
    return absorb(value, port << 8 | event)


def _hidden(seen: Any, window: Key) -> Sequence[Hidden]:
    return (Hidden(window, seen.suppressed, seen.first_ns, seen.last_ns, seen.deckies),)
