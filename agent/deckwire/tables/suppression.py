"""Suppression windows: the kernel counts repeats of what was emitted, and sends no samples of them.

Each map of the kernel is bounded, and a signature has one of two slots in it. When another
signature takes over that slot, the first is no longer suppressed. The agent then deduplicates its
events.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from mmap import mmap
from typing import Generic, NamedTuple, TypeVar

from deckwire.abi import structs as abi
from deckwire.abi.hashes import slots_of
from deckwire.kernel.maps import Map
from deckwire.tcp.flow import FlowSums

_EMPTY = bytes(abi.SEEN.size)
_NOTHING_SUPPRESSED = (0, 0, 0, 0)
"""suppressed, first_ns, last_ns and deckies."""
_U64_BYTES = 8
_GRAIN_NS = 1 << 28
"""Ends of windows are multiples of it, 0.27 s, so that many windows share one end."""


W = TypeVar("W")
"""The name of a dedup window, opaque here."""


class Suppressed(NamedTuple, Generic[W]):
    """The events of one signature that the kernel suppressed. Times are kernel nanoseconds."""

    window: W
    """The dedup window that caused it."""
    events: int
    first_ns: int
    last_ns: int
    deckies: int
    """A bit set of hashed deckies."""
    sums: FlowSums | None = None
    """The figures of the connections among them, if the kernel adds them up."""


class Suppression(Generic[W]):
    """The open windows of one map of struct seen, by slot. For one thread.

    A slot has one window, as in the kernel. Their state is kept in arrays, because a flood opens a
    window in every slot.
    """

    def __init__(self, table: Map, sums: Map | None = None) -> None:
        """`sums` has a struct flow_sums for each slot of `table`."""
        self._table = table
        self._sums = sums
        self._slots = slots = table.max_entries
        # Anonymous memory takes no room until a window uses it.
        self._signatures = memoryview(mmap(-1, _U64_BYTES * slots)).cast("Q")
        self._ends = memoryview(mmap(-1, _U64_BYTES * slots)).cast("Q")
        self._windows: list[W | None] = [None] * slots
        """None if no window is open; the other arrays may then hold old values."""
        self._count = 0
        self._due: dict[int, array[int]] = {}
        """Slots by the end of their window. A slot may also stay under an earlier end."""
        self._dues: list[int] = []
        """A heap of those ends."""
        self._noted = 0
        """Slots in all of `_due`."""

    def __len__(self) -> int:
        return self._count

    def suppresses(self, signature: int, time_ns: int) -> bool:
        """Whether the kernel suppresses this signature at `time_ns`, as far as the agent knows."""
        return self.window(signature, time_ns) is not None

    def window(self, signature: int, time_ns: int) -> W | None:
        """The window because of which it does so; None if it does not."""
        for slot in slots_of(signature, self._slots):
            # Not by _has(): each event that may be suppressed asks.
            if self._signatures[slot] == signature and time_ns < self._ends[slot]:
                window = self._windows[slot]
                if window is not None:
                    return window
        return None

    def open(self, signature: int, window: W, until_ns: int) -> Sequence[Suppressed[W]]:
        """Have the kernel suppress `signature` until `until_ns`, because `window` is open.

        The suppression ends up to _GRAIN_NS earlier, so that many windows end at once. Returns what
        the kernel suppressed on its own before, or for the window that had this slot.
        """
        slot, before = self._choose(signature)
        end_ns = until_ns - until_ns % _GRAIN_NS
        key = abi.SLOT.pack(slot)
        known, suppressed = abi.SEEN_COUNT.unpack_from(before)
        found: Sequence[Suppressed[W]] = ()
        if suppressed:
            if known == signature:
                found = self._suppressed(slot, before, window)
            elif known == self._signatures[slot]:
                found = self._suppressed(slot, before, self._windows[slot])
        self._table.update(key, abi.SEEN.build((signature, end_ns, 1, *_NOTHING_SUPPRESSED)))
        if self._windows[slot] is None:
            self._count += 1
            self._note(slot, end_ns)
        elif self._ends[slot] != end_ns:
            self._note(slot, end_ns)
        self._signatures[slot] = signature
        self._ends[slot] = end_ns
        self._windows[slot] = window
        return found

    def close(self, signature: int) -> Sequence[Suppressed[W]]:
        """Close a window if it is open; return what was suppressed because of it."""
        found: list[Suppressed[W]] = []
        for slot in slots_of(signature, self._slots):
            if self._has(slot, signature):
                found += self._take(slot)
        return found

    def withdraw(self, signature: int) -> Sequence[Suppressed[W]]:
        """Stop the suppression of a signature; return what was suppressed because of its window."""
        found = self.close(signature)
        for slot in slots_of(signature, self._slots):
            key = abi.SLOT.pack(slot)
            if abi.SEEN_COUNT.unpack_from(self._table.lookup(key) or _EMPTY)[0] == signature:
                self._table.update(key, _EMPTY)
        return found

    def withdraw_all(self, which: Callable[[W], bool]) -> Iterator[Suppressed[W]]:
        """Withdraw the windows for which `which` is true; give what they suppressed."""
        for slot, window in enumerate(self._windows):
            if window is not None and which(window):
                yield from self.withdraw(self._signatures[slot])

    def over(self, now_ns: int | None) -> Iterable[Suppressed[W]]:
        """Close the windows that end by `now_ns`, or all if None; give what they suppressed."""
        if now_ns is not None and (not self._dues or self._dues[0] > now_ns):
            # Nearly always, and each event asks.
            return ()
        return self._over(now_ns)

    def _over(self, now_ns: int | None) -> Iterator[Suppressed[W]]:
        for slot in self._ended(now_ns):
            yield from self._take(slot)

    def release(self, until_ns: int | None) -> Iterator[Suppressed[W]]:
        """Stop suppression for windows that end by then, or all if None: they can be evicted."""
        for slot in self._ended(until_ns):
            yield from self.withdraw(self._signatures[slot])

    def _has(self, slot: int, signature: int) -> bool:
        """Whether the window of this signature has this slot."""
        return self._signatures[slot] == signature and self._windows[slot] is not None

    def _choose(self, signature: int) -> tuple[int, bytes]:
        """The slot that the kernel would use for a signature, and its value: is_in_second()."""
        first, second = slots_of(signature, self._slots)
        value = self._table.lookup(abi.SLOT.pack(first)) or _EMPTY
        known, until_ns = abi.SEEN_END.unpack_from(value)
        if known == signature:
            return first, value
        other = self._table.lookup(abi.SLOT.pack(second)) or _EMPTY
        known, other_until_ns = abi.SEEN_END.unpack_from(other)
        if known == signature or other_until_ns < until_ns:
            return second, other
        return first, value

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
        """Drop the ends that windows had earlier."""
        self._due, self._dues, self._noted = {}, [], 0
        for slot, window in enumerate(self._windows):
            if window is not None:
                self._note(slot, self._ends[slot])

    def _ended(self, now_ns: int | None) -> Iterator[int]:
        """Slots whose windows end by `now_ns`, or all if it is None."""
        while self._dues and (now_ns is None or self._dues[0] <= now_ns):
            end_ns = heappop(self._dues)
            slots = self._due.pop(end_ns)
            self._noted -= len(slots)
            for slot in slots:
                if self._windows[slot] is not None and self._ends[slot] == end_ns:
                    yield slot

    def _take(self, slot: int) -> Sequence[Suppressed[W]]:
        """Close the open window of a slot; return what was suppressed because of it."""
        window, self._windows[slot] = self._windows[slot], None
        self._count -= 1
        key = abi.SLOT.pack(slot)
        entry = self._table.lookup(key) or _EMPTY
        signature, suppressed = abi.SEEN_COUNT.unpack_from(entry)
        if signature != self._signatures[slot] or not suppressed:
            return ()
        seen = abi.SEEN.parse(entry)
        self._table.update(key, abi.SEEN.build(seen._replace(suppressed=0, deckies=0)))
        return self._suppressed(slot, entry, window)

    def _suppressed(self, slot: int, entry: bytes, window: W | None) -> Sequence[Suppressed[W]]:
        """The count in a value of the map, for its window if that is open."""
        sums = self._take_sums(slot)
        if window is None:
            return ()
        seen = abi.SEEN.parse(entry)
        return (
            Suppressed(window, seen.suppressed, seen.first_ns, seen.last_ns, seen.deckies, sums),
        )

    def _take_sums(self, slot: int) -> FlowSums | None:
        """The figures of a slot, which begin anew; None if there are none."""
        if self._sums is None:
            return None
        key = abi.SLOT.pack(slot)
        value = self._sums.lookup(key)
        if value is None or not any(value):
            return None
        self._sums.update(key, bytes(len(value)))
        return FlowSums(*abi.FLOW_SUMS.parse(value))
