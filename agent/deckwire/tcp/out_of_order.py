"""Segments ahead of the next byte in order, with their overlaps resolved as Linux resolves them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

PIECE_BYTES = 96
"""Memory that a piece needs in addition to its bytes: an object, its slot, three numbers."""


ANY_ROOM = 1 << 62
"""Stands for a buffer that takes whatever follows."""
_SHARED_INFO_BYTES = 320
_BUFFER_BYTES = (512, 1_024, 2_048, 4_096, 8_192)


def room_behind(packet_bytes: int) -> int:
    """The bytes that fit into a buffer behind an IP packet of this length.

    This holds where a packet has a buffer of its own, which Linux rounds up, and whose end is
    struct skb_shared_info. Buffers of cards with pages take more.
    """
    for size in _BUFFER_BYTES:
        room = size - _SHARED_INFO_BYTES - packet_bytes
        if room >= 0:
            return room
    return 0


class OutOfOrderQueue:
    """Pieces of a byte stream that wait for the bytes before them.

    The rules are those of tcp_data_queue_ofo and tcp_ofo_queue in Linux (net/ipv4/tcp_input.c):

    - A segment that begins where a piece ends is appended to it, if the search meets that piece.
    - Else a segment inside one piece is dropped.
    - A segment replaces every piece that it covers.
    - Where two pieces overlap otherwise, the one that begins first gives the bytes.

    Linux searches a tree, and meets a piece before others that are younger. Two things differ here,
    because they hardly ever matter: Linux balances the tree, and it keeps a piece that an appended
    segment covers.

    Whether a segment is appended depends on the buffers (skb_try_coalesce), which no observer sees.
    It is here if it fits into the room that the buffer of the piece has; without `joins`, if it
    does not. See room_behind().

    Starts and ends are offsets. Both are strictly ascending, so each piece gives at least one
    byte. Only the bytes that a piece gives are kept: its last ones, from the end of the piece
    before it on.
    """

    __slots__ = (
        *("_ages", "_ends", "_inserted", "_pieces", "_rooms", "_starts"),
        *("duplicate", "joins", "waiting"),
    )

    waiting: int
    """Bytes kept."""
    duplicate: tuple[int, int] | None
    """Start and end of the bytes of the last segment that Linux says were there (RFC 2883)."""

    def __init__(self, *, joins: bool = True) -> None:
        self.joins = joins
        self._starts = array("q")
        self._ends = array("q")
        self._ages = array("q")  # the lower, the older
        self._rooms = array("q")  # bytes that the buffer of a piece still takes
        self._inserted = 0
        self._pieces: list[bytearray] = []
        self.waiting = 0
        self.duplicate = None

    def __len__(self) -> int:
        """Pieces kept."""
        return len(self._pieces)

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        return self.waiting + PIECE_BYTES * len(self._pieces)

    def insert(self, start: int, data: bytes, room: int = ANY_ROOM) -> bool:
        """Take a segment that begins at offset `start`; False if it brings no byte.

        `room` are the bytes that its buffer takes behind it.
        """
        starts, ends, pieces = self._starts, self._ends, self._pieces
        end = start + len(data)
        index = bisect_right(starts, start)
        self.duplicate = None
        if index:
            adjoining = self._adjoining(start, index)
            if adjoining is not None and (len(data) <= self._rooms[adjoining]) == self.joins:
                return self._append(adjoining, data)
            if end <= ends[index - 1]:
                self.duplicate = start, end
                return False
        self._inserted = age = self._inserted + 1
        if index and start == starts[index - 1]:
            index -= 1
            age = self._ages[index]
            self._remove(index, index + 1)
        gives = max(start, ends[index - 1]) if index else start
        self._note_duplicate(start, gives, end, index)
        starts.insert(index, start)
        ends.insert(index, end)
        self._ages.insert(index, age)
        self._rooms.insert(index, room)
        pieces.insert(index, bytearray(memoryview(data)[gives - start :]))
        self.waiting += end - gives
        self._uncover(index + 1, end)
        return True

    def contradicts(self, start: int, data: bytes) -> bool:
        """Whether bytes kept here differ from those of a segment that begins at `start`."""
        end = start + len(data)
        for index in range(bisect_left(self._starts, end) - 1, -1, -1):
            piece_end, piece = self._ends[index], self._pieces[index]
            if piece_end <= start:
                break
            piece_start = piece_end - len(piece)
            low, high = max(start, piece_start), min(end, piece_end)
            if low >= high:  # the piece gives none of these bytes
                continue
            if piece[low - piece_start : high - piece_start] != data[low - start : high - start]:
                return True
        return False

    def runs(self) -> Iterator[tuple[int, bytes]]:
        """The bytes kept, as runs without a hole, each after its offset."""
        run, at = bytearray(), 0
        for end, piece in zip(self._ends, self._pieces, strict=True):
            start = end - len(piece)
            if run and start != at + len(run):
                yield at, bytes(run)
                run.clear()
            if not run:
                at = start
            run += piece
        if run:
            yield at, bytes(run)

    def take(self, offset: int, before: int | None = None) -> bytearray:
        """Remove what is in order from `offset` on, and what is older; the bytes in order.

        `before` leaves the pieces that begin there or later.
        """
        ready = bytearray()
        count = 0
        for start in self._starts:
            if start > offset or (before is not None and start >= before):
                break
            end = self._ends[count]
            if end > offset:
                ready += memoryview(self._pieces[count])[offset - end :]
                offset = end
            count += 1
        self._remove(0, count)
        return ready

    def drop_lowest(self) -> int:
        """Drop the piece that begins first; how many bytes that were."""
        size = len(self._pieces[0])
        self._remove(0, 1)
        # Those that began inside it begin now with the first byte that they give.
        first: int | None = None
        for index, start in enumerate(self._starts):
            if first is not None and start > first:
                break
            first = self._ends[index] - len(self._pieces[index])
            self._starts[index] = first
        return size

    def drop_beyond(self, limit: int) -> int:
        """Drop the pieces that end after `limit`; how many bytes that were."""
        before = self.waiting
        self._remove(bisect_right(self._ends, limit), len(self._ends))
        return before - self.waiting

    def _adjoining(self, start: int, index: int) -> int | None:
        """The piece that ends at `start`, if a search for the place before `index` meets it."""
        found = bisect_left(self._ends, start, 0, index)
        if found == index or self._ends[found] != start:
            return None
        later = self._ages[found + 1 : index]
        return found if not later or self._ages[found] < min(later) else None

    def _append(self, index: int, data: bytes) -> bool:
        end = self._ends[index] + len(data)
        self._ends[index] = end
        self._pieces[index] += data
        self._rooms[index] -= len(data)
        self.waiting += len(data)
        self._uncover(index + 1, end)
        return True

    def _note_duplicate(self, start: int, gives: int, end: int, index: int) -> None:
        """Note what a segment has in common with its neighbours (tcp_dsack_set, tcp_dsack_extend).

        It is about to be inserted at `index`, and its first bytes before `gives` are there.
        """
        duplicate = (start, gives) if gives > start else None
        for other in range(index, len(self._starts)):
            low, high = self._starts[other], min(self._ends[other], end)
            if low >= end:
                break
            if duplicate is None:
                duplicate = low, high
            elif low <= duplicate[1] and duplicate[0] <= high:
                duplicate = min(duplicate[0], low), max(duplicate[1], high)
        self.duplicate = duplicate

    def _uncover(self, index: int, end: int) -> None:
        """Give what lies before `end` to the piece before `index`, which ends there."""
        covered = bisect_right(self._ends, end, index)
        self._remove(index, covered)
        if index < len(self._pieces):
            piece = self._pieces[index]
            excess = end - (self._ends[index] - len(piece))
            if excess > 0:
                del piece[:excess]
                self.waiting -= excess

    def _remove(self, first: int, stop: int) -> None:
        if first == stop:
            return
        self.waiting -= sum(map(len, self._pieces[first:stop]))
        for each in (self._starts, self._ends, self._ages, self._rooms, self._pieces):
            del each[first:stop]
