"""A slow model of a TCP receiver by the rules of net/ipv4/tcp_input.c of Linux.

It differs from Linux in the same points as OutOfOrderQueue. Buffers are always joined, or never.
The tree is ordered by age and not balanced. Buffers that a joined buffer covers are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Buffer:
    """The data of one segment, as Linux keeps it (struct sk_buff)."""

    seq: int
    data: bytes
    age: int

    @property
    def end(self) -> int:
        return self.seq + len(self.data)


class LinuxReceiver:
    """One direction of a connection. The application reads all data in order at once."""

    def __init__(self, *, joins: bool = True) -> None:
        """Make a receiver. `joins` is False if a segment is never appended to a buffer."""
        self._joins = joins
        self.rcv_nxt = 0
        self.read = b""
        self.differed = False
        self._known: dict[int, int] = {}
        """The byte at each offset that would be read if no byte before it were missing."""
        self._in_order = b""
        """All bytes received in order, including urgent bytes."""
        self._queue: list[Buffer] = []
        self._age = 0
        self._urgent: int | None = None

    @property
    def gap(self) -> bool:
        return bool(self._queue)

    def segment(self, seq: int, data: bytes, urgent: int | None = None) -> None:
        end = seq + len(data)
        if urgent is not None and end >= self.rcv_nxt:
            self._check_urgent(urgent)
        self._note_difference(seq, data)
        if not data or end <= self.rcv_nxt:
            return
        if seq > self.rcv_nxt:
            self._data_queue_ofo(seq, data)
        else:
            self._deliver(data[self.rcv_nxt - seq :])
            self._ofo_queue()
        self._known = self._resolve()

    def _check_urgent(self, pointer: int) -> None:
        """Keep a new urgent pointer (tcp_check_urg)."""
        if pointer < self.rcv_nxt:
            return
        if self._urgent is not None and pointer <= self._urgent:
            return
        self._urgent = pointer

    def _deliver(self, data: bytes) -> None:
        """Pass data to the application without the urgent byte (tcp_recvmsg)."""
        if self._urgent is not None and self._urgent < self.rcv_nxt + len(data):
            at = self._urgent - self.rcv_nxt
            self.read += data[:at] + data[at + 1 :]
            self._urgent = None
        else:
            self.read += data
        self._in_order += data
        self.rcv_nxt += len(data)

    def _ofo_queue(self) -> None:
        """Deliver queued buffers that are in order now (tcp_ofo_queue)."""
        while self._queue and self._queue[0].seq <= self.rcv_nxt:
            buffer = self._queue.pop(0)
            if buffer.end > self.rcv_nxt:
                self._deliver(buffer.data[self.rcv_nxt - buffer.seq :])

    def _data_queue_ofo(self, seq: int, data: bytes) -> None:
        """Queue a segment that is out of order (tcp_data_queue_ofo)."""
        new = Buffer(seq, data, self._age)
        self._age += 1
        queue = self._queue
        low, high = 0, len(queue)
        while low < high:
            at = min(range(low, high), key=lambda n: queue[n].age)
            met = queue[at]
            if seq < met.seq:
                high = at
                continue
            if seq < met.end:
                if new.end <= met.end:
                    return
                if seq == met.seq:
                    new.age = met.age
                    queue[at] = new
                    self._drop_covered(at)
                    return
            elif seq == met.end and self._joins:
                met.data += data
                self._drop_covered(at)
                return
            low = at + 1
        queue.insert(low, new)
        self._drop_covered(low)

    def _drop_covered(self, at: int) -> None:
        queue = self._queue
        while at + 1 < len(queue) and queue[at + 1].end <= queue[at].end:
            del queue[at + 1]

    def _resolve(self) -> dict[int, int]:
        known = dict(enumerate(self._in_order))
        for buffer in self._queue:
            for offset, byte in enumerate(buffer.data, buffer.seq):
                known.setdefault(offset, byte)
        return known

    def _note_difference(self, seq: int, data: bytes) -> None:
        for offset, byte in enumerate(data, seq):
            if self._known.get(offset, byte) != byte:
                self.differed = True
