"""Bytes of one direction of a connection, put back in order as its receiver's TCP does it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from deckwire.limits import STREAM_BYTES, STREAM_CUTS, STREAM_PIECES
from deckwire.tcp.out_of_order import ANY_ROOM, OutOfOrderQueue

_SEQ_MASK = 0xFFFF_FFFF
_SEQ_HALF = 0x8000_0000
_EMPTY_QUEUE = OutOfOrderQueue()
"""Stands for the queue of every stream until a segment of it waits: in most streams none does."""


class Stream:
    """One direction of a connection, from TCP sequence space to a byte string read in order.

    Segments come in any order, more than once and overlapping. Linux decides which copy of a
    byte counts: bytes in order are never replaced; those that wait after a hole are resolved by
    the OutOfOrderQueue. The urgent byte is not part of what is read (RFC 6093, 3.1). Sequence
    numbers are compared in serial arithmetic (RFC 9293, 3.4), so wraps need no care outside.

    Where the stream begins may be unknown at first. Until `begin` is called, every segment waits.

    Memory: at most STREAM_BYTES of payload in STREAM_PIECES pieces. Unread bytes have precedence;
    what they leave free keeps bytes already read, to compare a retransmission with them.
    """

    __slots__ = (
        "_base",
        "_begun",
        "_cuts",
        "_data",
        "_first_seq",
        "_is_inline",
        "_near",
        "_queue",
        "_read",
        "_urgent",
        "_urgent_unread",
        "dropped",
        "overlap",
    )

    dropped: int
    """Payload bytes that no bound left room for."""
    overlap: bool
    """True once two copies of one byte differed."""

    def __init__(self, first_seq: int, *, begun: bool = True) -> None:
        """`first_seq` is the sequence number of stream offset 0: a SYN's plus one.

        If the beginning is unknown (`begun` is False), it is any number near the first segment's.
        """
        self._first_seq = first_seq & _SEQ_MASK
        self._begun = begun
        self._is_inline = False  # urgent bytes are part of the stream
        self._near = 0  # before the beginning is known: offset of the last segment
        self._base = 0  # offset of _data[0]
        self._data = bytearray()  # in order: read bytes kept for comparison, then unread ones
        self._read = 0  # offset up to which read() has returned
        self._queue = _EMPTY_QUEUE
        self._urgent: int | None = None  # offset of an urgent byte that is not in order yet
        self._urgent_unread: list[int] = []  # offsets of those that are, not before _read
        self._cuts: list[tuple[int, int]] = []  # offsets (start, end) that the capture left out
        self.dropped = 0
        self.overlap = False

    def other(self) -> Stream:
        """A copy that resolves what no observer can know the other way.

        It appends the segments to pieces that this one does not (Linux does if its buffers allow
        it), and it reads urgent bytes (as an application does with SO_OOBINLINE).
        """
        other = deepcopy(self)
        other._queue.joins = False
        other._is_inline = True
        return other

    def had(self, block: tuple[int, int] | None) -> bool:
        """Whether these bytes of the segment that waits since last waited before.

        `block` has the sequence numbers of the first one and of the one after the last; None
        stands for no byte.
        """
        duplicate = self._queue.duplicate
        if block is None or duplicate is None:
            return block is duplicate
        return (self._offset(block[0]), self._offset(block[1])) == duplicate

    def hold_as(self, other: Stream) -> None:
        """Hold the same bytes out of order as another copy of the stream does."""
        joins = self._queue.joins
        self._queue = deepcopy(other._queue)
        self._queue.joins = joins

    def is_ahead(self, seq: int) -> bool:
        """Whether a segment that begins there would wait for bytes before it."""
        return self._begun and self._offset(seq) > self.next_offset

    @property
    def next_offset(self) -> int:
        """Offset of the first byte that is still missing."""
        return self._base + len(self._data)

    def peek(self, count: int, skip: int = 0) -> bytes:
        """Up to `count` bytes of what `read` would return, after the first `skip`."""
        at = self._read - self._base
        if self._urgent_unread:
            return self._without_urgent(self._data[at:])[skip : skip + count]
        return bytes(memoryview(self._data)[at + skip : at + skip + count])

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        return len(self._data) + (self._queue.held if self._queue.waiting else 0)

    @property
    def gap(self) -> bool:
        """True while bytes wait after a hole."""
        return self._queue.waiting > 0

    @property
    def cut(self) -> bool:
        """True while the next byte in order is one that the capture cut off its segment."""
        offset = self.next_offset
        return any(start <= offset < end for start, end in self._cuts)

    def add(
        self,
        seq: int,
        data: bytes,
        claimed_len: int | None = None,
        urgent_seq: int | None = None,
        room: int = ANY_ROOM,
    ) -> None:
        """Take the payload of one segment.

        `seq` is the sequence number of its first payload byte. `claimed_len` is the payload
        length that the packet's headers gave; the capture may hold less. `urgent_seq` is the
        sequence number of the byte that its urgent pointer marks, None without the URG flag.
        `room` are the bytes that the receiver's buffer takes behind the segment.

        Never raises. What lies before offset 0 or is there already is ignored. What no bound has
        room for is counted.
        """
        expected = self._base + len(self._data)
        if (
            seq == (self._first_seq + expected) & _SEQ_MASK
            and urgent_seq is None
            and self._begun
            and not self._queue.waiting
            and self._urgent is None
            and len(data) <= self._read + STREAM_BYTES - expected
        ):
            # The usual segment, next in order where nothing waits: no search for its place.
            if claimed_len is not None and claimed_len > len(data):
                self._note_cut(expected + len(data), expected + claimed_len)
            self._data += data
            if len(self._data) > STREAM_BYTES:
                self._trim()
            return
        start = self._offset(seq)
        end = start + len(data)
        # A receiver looks at nothing of a segment that ends before what it has acknowledged.
        if urgent_seq is not None and not self._is_inline and not (self._begun and end < expected):
            self._mark_urgent(self._offset(urgent_seq))
        if claimed_len is not None and claimed_len > len(data):
            self._note_cut(end, start + claimed_len)
        if not self._begun:
            self._near = start
            if data:
                self._wait(start, data, room)
            return
        limit = self._read + STREAM_BYTES
        if end > limit:
            self.dropped += end - max(start, limit)
            data = data[: max(limit - start, 0)]
        if start < self._base:  # before the stream, or read and no longer kept
            data = data[self._base - start :]
            start = self._base
        if not data:
            return
        if start > expected:
            self._wait(start, data, room)
        else:
            self._join(start, data)
        self._trim()

    def waiting(self) -> Iterator[tuple[int, bytes]]:
        """What waits, as runs of adjoining bytes, each after its first sequence number."""
        for start, data in self._queue.runs():
            yield (self._first_seq + start) & _SEQ_MASK, data

    def begin(self, seq: int, known_until: int | None = None) -> None:
        """Go on at this sequence number: what comes before it is of no interest.

        Of segments that waited, those that begin before `known_until` were in order. The others
        still wait, because the segment that showed the beginning counts before them.
        """
        offset = self._offset(seq)
        before = None if known_until is None else self._offset(known_until)
        if not self._begun or not self._base <= offset <= self.next_offset:
            self._begun = True
            self._base = offset
            self._data = self._queue.take(offset, before)
            self.dropped += self._queue.drop_beyond(offset + STREAM_BYTES)
        self._read = offset
        self._urgent_unread = [urgent for urgent in self._urgent_unread if urgent >= offset]
        self._pass_urgent()

    def lose_beginning(self, again: int = 0) -> None:
        """What is in order is not what was expected: all that is unread waits for `begin`.

        So do the last `again` bytes that were read, as far as they are here.
        """
        at = max(self._base, self._read - again)
        unread = bytes(memoryview(self._data)[at - self._base :])
        self._begun = False
        self._near = at
        self._data.clear()
        if unread:
            self._wait(at, unread)
        if self._urgent is None and self._urgent_unread:
            self._urgent = self._urgent_unread[-1]
        self._urgent_unread.clear()

    def read(self) -> bytes:
        """Return the bytes in order that no earlier call has returned, b"" if there are none."""
        unread = bytes(memoryview(self._data)[self._read - self._base :])
        if self._urgent_unread:
            unread = self._without_urgent(unread)
            self._urgent_unread.clear()
        self._read = self.next_offset
        return unread

    def _offset(self, seq: int) -> int:
        near = self._base + len(self._data) if self._begun else self._near
        ahead = (seq - self._first_seq - near) & _SEQ_MASK
        if ahead >= _SEQ_HALF:
            ahead -= _SEQ_MASK + 1
        return near + ahead

    def _wait(self, start: int, data: bytes, room: int = ANY_ROOM) -> None:
        """Keep bytes that wait for others before them."""
        if self._queue is _EMPTY_QUEUE:
            self._queue = OutOfOrderQueue()
        queue = self._queue
        if not self.overlap and queue.contradicts(start, data):
            self.overlap = True
        if self._begun and len(queue) >= STREAM_PIECES:
            self.dropped += len(data)
            return
        queue.insert(start, data, room)
        # A stream moves forward: while its beginning is unknown, the lowest piece is worth least.
        while queue.waiting > STREAM_BYTES or len(queue) > STREAM_PIECES:
            self.dropped += queue.drop_lowest()

    def _join(self, start: int, data: bytes) -> None:
        """Put bytes in order, and what waited for them."""
        self._compare(start, data)
        self._data += memoryview(data)[self.next_offset - start :]
        if self._queue.waiting:
            self._data += self._queue.take(self.next_offset)
        self._pass_urgent()

    def _compare(self, start: int, data: bytes) -> None:
        """Note whether a segment that begins in order differs from what is here of it."""
        if self.overlap:
            return
        known = memoryview(self._data)[start - self._base : start - self._base + len(data)]
        self.overlap = known != memoryview(data)[: len(known)] or self._queue.contradicts(
            start, data
        )

    def _mark_urgent(self, offset: int) -> None:
        """Take an urgent pointer as tcp_check_urg in Linux does.

        One that points at bytes in order is too late. A later one takes the place of an earlier
        one whose byte has not come in order, and that byte is an ordinary one then.
        """
        if self._begun and offset < self.next_offset:
            return
        if self._urgent is None or offset > self._urgent:
            self._urgent = offset

    def _pass_urgent(self) -> None:
        """Leave the urgent byte out of what is read once it has come in order."""
        urgent = self._urgent
        if urgent is None or urgent >= self.next_offset:
            return
        if urgent >= self._read:
            self._urgent_unread.append(urgent)
        self._urgent = None

    def _without_urgent(self, unread: bytes | bytearray) -> bytes:
        kept, at = bytearray(), 0
        for urgent in self._urgent_unread:
            kept += unread[at : urgent - self._read]
            at = urgent - self._read + 1
        return bytes(kept + unread[at:])

    def _note_cut(self, start: int, end: int) -> None:
        """Remember that a segment covered these offsets but the capture does not hold them."""
        expected = self.next_offset
        if self._begun:
            end = min(end, self._read + STREAM_BYTES)
            if self._cuts:
                cuts = self._cuts
                self._cuts = [cut for cut in cuts if cut[1] > expected and cut != (start, end)]
        if (not self._begun or expected < end) and start < end and len(self._cuts) < STREAM_CUTS:
            self._cuts.append((start, end))

    def _trim(self) -> None:
        """Drop read bytes, oldest first, as far as the bound on memory asks for it."""
        excess = len(self._data) + self._queue.waiting - STREAM_BYTES
        if excess > 0:
            count = min(excess, self._read - self._base)
            del self._data[:count]
            self._base += count
