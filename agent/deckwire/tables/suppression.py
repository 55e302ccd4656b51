"""Windows in which the kernel suppresses what was told: it sends no sample, it only counts.

Each table of the kernel is direct-mapped by signature and bounded: a slot that another signature
takes over suppresses nothing any more, and what comes then is deduplicated by the agent.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from mmap import mmap
from struct import Struct
from typing import NamedTuple

from deckwire.abi import structs as abi
from deckwire.abi.hashes import absorb
from deckwire.abi.members import members
from deckwire.events.dedup import Key
from deckwire.kernel.maps import Map

SERVICE_HANDSHAKE, SERVICE_FLOW = 1, 2
"""enum service_event: completed handshakes, ends of connections."""

_SLOT = Struct("<I")
_WORDS = Struct("<4I")
_EMPTY = bytes(abi.SEEN.size)
_COUNT = members(abi.SCHEMAS["seen"], "signature", "suppressed")
_NOTHING_SUPPRESSED = (0, 0, 0, 0)
"""suppressed, first_ns, last_ns and deckies."""
_U64_BYTES = 8
_GRAIN_NS = 1 << 28
"""Ends of windows are multiples of it, 0.27 s: what ends together is noted together."""


class Suppressed(NamedTuple):
    """What the kernel hid of one signature; kernel times."""

    window: Key
    """The dedup window because of which it did."""
    events: int
    first_ns: int
    last_ns: int
    deckies: int
    """A bit set of hashed deckies."""


class Suppression:
    """The open windows of one of the kernel's tables (struct seen), by its slots. For one thread.

    A slot has one window, as in the kernel. What is known of it stands in arrays: a flood opens a
    window in every slot.
    """

    def __init__(self, table: Map) -> None:
        self._table = table
        slots = table.max_entries
        self._mask = slots - 1
        # Anonymous memory: what no window has used is no memory yet.
        self._signatures = memoryview(mmap(-1, _U64_BYTES * slots)).cast("Q")
        self._ends = memoryview(mmap(-1, _U64_BYTES * slots)).cast("Q")
        self._windows: list[Key | None] = [None] * slots
        """None: no window is open, whatever stands in the others."""
        self._count = 0
        self._due: dict[int, array[int]] = {}
        """Slots by the ends of their windows. Those whose window has another end by now remain."""
        self._dues: list[int] = []
        """A heap of those ends."""
        self._noted = 0
        """Slots in all of `_due`."""

    def __len__(self) -> int:
        return self._count

    def suppresses(self, signature: int, time_ns: int) -> bool:
        """Whether the kernel was told to hide this signature at `time_ns`, and has counted it."""
        slot = signature >> 32 & self._mask
        return (
            self._signatures[slot] == signature
            and self._windows[slot] is not None
            and time_ns < self._ends[slot]
        )

    def open(self, signature: int, window: Key, until_ns: int) -> Sequence[Suppressed]:
        """Have the kernel hide `signature` until `until_ns`, because `window` has told it.

        In fact it ceases up to _GRAIN_NS earlier, so that many windows end at once. Returns what
        it hid on its own before, or for the window whose slot this is to be.
        """
        slot = signature >> 32 & self._mask
        end_ns = until_ns - until_ns % _GRAIN_NS
        place = _SLOT.pack(slot)
        before = self._table.lookup(place) or _EMPTY
        known, suppressed = _COUNT.unpack_from(before)
        hidden: Sequence[Suppressed] = ()
        if suppressed:
            if known == signature:
                hidden = _suppressed(before, window)
            elif known == self._signatures[slot]:
                hidden = _suppressed(before, self._windows[slot])
        self._table.update(place, abi.SEEN.build((signature, end_ns, 1, *_NOTHING_SUPPRESSED)))
        if self._windows[slot] is None:
            self._count += 1
            self._note(slot, end_ns)
        elif self._ends[slot] != end_ns:
            self._note(slot, end_ns)
        self._signatures[slot] = signature
        self._ends[slot] = end_ns
        self._windows[slot] = window
        return hidden

    def close(self, signature: int) -> Sequence[Suppressed]:
        """Forget a window, if it is open; what was hidden because of it."""
        slot = signature >> 32 & self._mask
        if self._signatures[slot] != signature or self._windows[slot] is None:
            return ()
        return self._take(slot)

    def withdraw(self, signature: int) -> Sequence[Suppressed]:
        """Have the kernel hide it no longer; what was hidden because of its window."""
        hidden = self.close(signature)
        place = _SLOT.pack(signature >> 32 & self._mask)
        if _COUNT.unpack_from(self._table.lookup(place) or _EMPTY)[0] == signature:
            self._table.update(place, _EMPTY)
        return hidden

    def over(self, now_ns: int | None) -> Iterator[Suppressed]:
        """Close the windows that are over; None: all of them."""
        for slot in self._ended(now_ns):
            yield from self._take(slot)

    def release(self, until_ns: int) -> Iterator[Suppressed]:
        """Withdraw what is hidden because of windows that end by then: they are to make room."""
        for slot in self._ended(until_ns):
            yield from self.withdraw(self._signatures[slot])

    def _note(self, slot: int, end_ns: int) -> None:
        if self._noted >= 2 * len(self._windows):
            self._note_anew()
        slots = self._due.get(end_ns)
        if slots is None:
            slots = self._due[end_ns] = array("I")
            heappush(self._dues, end_ns)
        slots.append(slot)
        self._noted += 1

    def _note_anew(self) -> None:
        """Forget the ends that windows had before."""
        self._due, self._dues, self._noted = {}, [], 0
        for slot, window in enumerate(self._windows):
            if window is not None:
                self._note(slot, self._ends[slot])

    def _ended(self, now_ns: int | None) -> Iterator[int]:
        """Slots whose windows end by then; None: all."""
        while self._dues and (now_ns is None or self._dues[0] <= now_ns):
            end_ns = heappop(self._dues)
            slots = self._due.pop(end_ns)
            self._noted -= len(slots)
            for slot in slots:
                if self._windows[slot] is not None and self._ends[slot] == end_ns:
                    yield slot

    def _take(self, slot: int) -> Sequence[Suppressed]:
        """Close an open window."""
        window, self._windows[slot] = self._windows[slot], None
        self._count -= 1
        place = _SLOT.pack(slot)
        entry = self._table.lookup(place) or _EMPTY
        signature, suppressed = _COUNT.unpack_from(entry)
        if signature != self._signatures[slot] or not suppressed:
            return ()
        seen = abi.SEEN.parse(entry)
        self._table.update(place, abi.SEEN.build(seen._replace(suppressed=0, deckies=0)))
        return _suppressed(entry, window)


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


def _suppressed(entry: bytes, window: Key | None) -> Sequence[Suppressed]:
    """What a value of the table counts, if its window is open."""
    if window is None:
        return ()
    seen = abi.SEEN.parse(entry)
    return (Suppressed(window, seen.suppressed, seen.first_ns, seen.last_ns, seen.deckies),)
