"""Bytes of one direction of a connection, put back in order from its TCP segments."""

from __future__ import annotations

from bisect import bisect_right

from deckwire.limits import STREAM_BYTES, STREAM_PIECES

_SEQ_MASK = 0xFFFF_FFFF
_SEQ_HALF = 0x8000_0000


class Stream:
    """One direction of a connection, from TCP sequence space to a byte string read in order.

    Segments come in any order, more than once and overlapping; the first copy of a byte wins,
    as it does at a receiver that has read it already. Sequence numbers are compared in serial
    arithmetic around the next byte in order (RFC 9293, 3.4), so wraps need no care outside.

    Memory: at most STREAM_BYTES of payload, of which the unread part has precedence; what is
    left of that keeps bytes already read, so that a retransmission can be compared with them.
    """

    __slots__ = (
        "_base",
        "_cuts",
        "_data",
        "_first_seq",
        "_pieces",
        "_read",
        "_starts",
        "_waiting",
        "dropped",
        "overlap",
        "segments",
    )

    dropped: int
    """Payload bytes refused: beyond STREAM_BYTES ahead of the reader, or in too many pieces."""
    overlap: bool
    """True once two copies of one byte differed: one of the two readers was deceived."""
    segments: int
    """Segments that brought at least one byte not seen before."""

    def __init__(self, first_seq: int) -> None:
        """`first_seq` is the sequence number of stream offset 0: a SYN's plus one."""
        self._first_seq = first_seq & _SEQ_MASK
        self._base = 0  # offset of _data[0]
        self._data = bytearray()  # in order: read bytes kept for comparison, then unread ones
        self._read = 0  # offset up to which read() has returned
        self._starts: list[int] = []  # offsets of _pieces: ascending, never touching
        self._pieces: list[bytearray] = []  # what waits behind a hole
        self._waiting = 0  # bytes in _pieces
        self._cuts: list[tuple[int, int]] = []  # offsets (start, end) that the capture left out
        self.dropped = 0
        self.overlap = False
        self.segments = 0

    @property
    def next_offset(self) -> int:
        """Offset of the first byte that is still missing: how many bytes stand in order."""
        return self._base + len(self._data)

    @property
    def gap(self) -> bool:
        """True while bytes wait behind a hole."""
        return bool(self._pieces)

    @property
    def cut(self) -> bool:
        """True while the next byte in order is one that the capture cut off its segment."""
        offset = self.next_offset
        return any(start <= offset < end for start, end in self._cuts)

    def add(self, seq: int, data: bytes, claimed_len: int | None = None) -> None:
        """Take the payload of one segment.

        `seq` is the sequence number of its first payload byte; `claimed_len` the payload length
        that the packet's headers gave, where the capture may hold less of it. Never raises: what
        lies before offset 0 or is there already is ignored, what fits no bound is counted.
        """
        expected = self.next_offset
        ahead = (seq - self._first_seq - expected) & _SEQ_MASK
        if ahead >= _SEQ_HALF:
            ahead -= _SEQ_MASK + 1
        start = expected + ahead
        end = start + len(data)
        limit = self._read + STREAM_BYTES
        if claimed_len is not None and claimed_len > len(data):
            self._note_cut(end, min(start + claimed_len, limit))
        if end > limit:
            self.dropped += end - max(start, limit)
            data = data[: max(limit - start, 0)]
        if start < self._base:  # before the stream, or read and no longer kept
            data = data[self._base - start :]
            start = self._base
        if not data:
            return
        if start == expected and not self._starts:
            # The usual segment, next in order where nothing waits: no search for its place.
            self._data += data
        elif not self._merge(start, data):
            return
        self.segments += 1
        self._forget()

    def read(self) -> bytes:
        """Return the bytes in order that no earlier call has returned, b"" if there are none."""
        unread = bytes(memoryview(self._data)[self._read - self._base :])
        self._read += len(unread)
        return unread

    def _merge(self, start: int, data: bytes) -> bool:
        """Store the bytes of `data` that are new; True if there was one."""
        fresh = False
        end = start + len(data)
        at = start
        while at < end:
            index = bisect_right(self._starts, at)
            if index:
                known_start, known = self._starts[index - 1], self._pieces[index - 1]
            else:
                known_start, known = self._base, self._data
            stop = known_start + len(known)
            if at < stop:
                stop = min(end, stop)
                if known[at - known_start : stop - known_start] != data[at - start : stop - start]:
                    self.overlap = True
            else:
                stop = min(end, self._starts[index]) if index < len(self._starts) else end
                fresh |= self._store(at, data[at - start : stop - start], index)
            at = stop
        return fresh

    def _store(self, start: int, data: bytes, index: int) -> bool:
        """Put new bytes into a hole, behind `index` pieces; False if there is no room for them."""
        starts, pieces = self._starts, self._pieces
        end = start + len(data)
        touches_next = index < len(starts) and starts[index] == end
        if start == self.next_offset:
            self._data += data
            if touches_next:
                self._waiting -= len(pieces[index])
                self._data += pieces.pop(index)
                del starts[index]
            return True
        if index and starts[index - 1] + len(pieces[index - 1]) == start:
            pieces[index - 1] += data
            if touches_next:
                pieces[index - 1] += pieces.pop(index)
                del starts[index]
        elif touches_next:
            pieces[index][:0] = data
            starts[index] = start
        elif len(pieces) < STREAM_PIECES:
            starts.insert(index, start)
            pieces.insert(index, bytearray(data))
        else:
            self.dropped += len(data)
            return False
        self._waiting += len(data)
        return True

    def _note_cut(self, start: int, end: int) -> None:
        """Remember that a segment covered these offsets but the capture does not hold them."""
        expected = self.next_offset
        self._cuts = [cut for cut in self._cuts if cut[1] > expected and cut != (start, end)]
        if expected < end and start < end and len(self._cuts) < STREAM_PIECES:
            self._cuts.append((start, end))

    def _forget(self) -> None:
        """Drop read bytes, oldest first, as far as the bound on memory asks for it."""
        excess = len(self._data) + self._waiting - STREAM_BYTES
        if excess > 0:
            count = min(excess, self._read - self._base)
            del self._data[:count]
            self._base += count
