"""The kernel's table of what deckies send on their own: datagrams that answer nobody."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple

from deckwire.abi import structs as abi
from deckwire.abi.begun import Begun
from deckwire.kernel.maps import Map

_ZERO = abi.SLOT.pack(0)
_BEGUN = Struct(f"<{8 * abi.COUNTERS.index('datagrams_begun')}xQ")
"""The counter of what goes into the table, in struct counters."""
_TURNS = 256
_U64_BYTES = 8


class _Read(NamedTuple):
    turn: int
    datagrams: int


_FREE = _Read(0, 0)


class BegunTable:
    """Reads begun_by_deckies; owns no map. For one thread."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._table = maps["begun_by_deckies"]
        self._counters = maps["counters"]
        self._begun = -1
        """The kernel's count of datagrams at the last look."""
        self._unsettled = True
        """What that look saw may have been written only in part."""
        self.unread = 0
        """Entries that the kernel has replaced before they were read."""
        self._times: list[int] = [0] * self._table.max_entries
        """last_ns of each slot as it was read last."""
        self._seen: dict[int, _Read] = {}

    def changed(self) -> list[Begun]:
        """What deckies have sent since the last call, by time. A slot is read again if it changes.

        The kernel gives a slot to another one only after it was silent for 5 s.
        """
        # A copy of the table takes longer than all else that a quiet agent does each second.
        begun = self._count()
        if begun == self._begun and not self._unsettled:
            return []
        # The kernel counts a datagram before it writes the slot, so this look may be too early.
        self._unsettled = begun != self._begun
        self._begun = begun
        values = memoryview(self._table.mapped(0, self._table.max_entries))
        step, at = abi.BEGUN_BYTES // _U64_BYTES, abi.BEGUN_LAST_NS // _U64_BYTES
        times = values.cast("Q")[at::step].tolist()
        if times == self._times:
            return []
        before, self._times = self._times, times
        found = []
        for slot, (time_ns, before_ns) in enumerate(zip(times, before, strict=True)):
            if time_ns == before_ns:
                continue
            one = self._read(slot)
            if one is None:
                # The kernel writes it just now.
                times[slot] = before_ns
                self._unsettled = True
            else:
                found.append(one)
        return sorted(found, key=_order)

    def _count(self) -> int:
        """The datagrams that the kernel has counted."""
        return sum(_BEGUN.unpack_from(value)[0] for value in self._counters.lookup_cpus(_ZERO))

    def _read(self, slot: int) -> Begun | None:
        """What is new in a slot; None if it cannot be read now."""
        value = self._table.mapped(slot, 1)
        decky, peer, first_ns, last_ns, link, lock, count, decky_port, port, protocol, turn = (
            abi.BEGUN.unpack_from(value)
        )
        again = abi.BEGUN.unpack_from(self._table.mapped(slot, 1))
        if lock or not count or again[-1] != turn:
            return None
        before = self._seen.get(slot, _FREE)
        is_new = turn != before.turn
        self._seen[slot] = _Read(turn, count)
        if is_new:
            self.unread += (turn - before.turn - 1) % _TURNS
        return Begun(
            *(decky, peer, protocol, decky_port, port, link),
            time_ns=first_ns if is_new else last_ns,
            last_ns=last_ns,
            datagrams=count if is_new else max(count - before.datagrams, 1),
        )


def _order(begun: Begun) -> tuple[int, bytes, bytes, int, int]:
    return begun.time_ns, begun.decky, begun.peer, begun.protocol, begun.port
