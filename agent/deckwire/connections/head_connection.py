"""One connection whose first bytes are being read: from sampled segments to bytes in order."""

from __future__ import annotations

from collections.abc import Callable, Container

from deckwire.abi.samples import SegmentSample
from deckwire.connections.http_connection import HttpConnection, HttpSeen
from deckwire.connections.payload import PayloadSeen, Sent
from deckwire.connections.ssh_connection import SshConnection, SshSeen
from deckwire.limits import HEAD_BYTES, PAYLOAD_BYTES
from deckwire.tcp.reassembly import Stream

_CONNECTION_BYTES = 600
"""Memory of a connection without its directions, about."""
_DIRECTION_BYTES = 700
"""Memory of one direction without its bytes, about."""

_LINK_BYTES = 100
"""Memory of a signature with its length, about."""

_SEQ_MASK = 0xFFFF_FFFF

Recall = Callable[[int], bytes | None]
"""Gives the bytes behind a signature of the kernel; None if they were evicted."""

HeadSeen = SshSeen | HttpSeen | PayloadSeen


def no_head(_signature: int) -> None:
    """The Recall of whoever remembers nothing."""


class Direction:
    """The first bytes that one end sends, in order."""

    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq
        """Sequence number of its first byte."""
        self.stream = Stream(first_seq)
        self.first = bytearray()
        """Up to HEAD_BYTES: a reader that begins late reads these first."""
        self.time_ns = 0
        """Kernel time of the last segment of them."""
        self.links: dict[int, int] = {}
        """The kernel's signatures of SSH, each with the number of bytes that it stands for."""

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        links = _LINK_BYTES * len(self.links)
        return _DIRECTION_BYTES + self.stream.held + len(self.first) + links

    def add(self, sample: SegmentSample) -> bytes:
        """Take a segment; the bytes that are in order now."""
        self.stream.add(sample.seq, sample.payload, sample.claimed, sample.urgent_seq)
        return self.read(sample.time_ns)

    def read(self, time_ns: int) -> bytes:
        """The bytes that are in order now."""
        data = self.stream.read()[: HEAD_BYTES - len(self.first)]
        self.first.extend(data)
        self.time_ns = time_ns
        return data

    def recall(self, signature: int, head: bytes) -> None:
        """Take the first bytes, which the kernel suppressed."""
        self.links[signature] = len(head)
        self.stream.add(self.first_seq, head, len(head), None)

    def note(self, sample: SegmentSample) -> None:
        """Keep the signature of all that was sent up to this segment's end, if it has one."""
        if sample.hello:
            length = (sample.seq + sample.claimed - self.first_seq) & _SEQ_MASK
            self.links.setdefault(sample.hello, length)

    def sent(self, total: int | None = None) -> Sent:
        """Its first bytes; `total` is how many the other end has acknowledged, if that is known."""
        data = bytes(self.first[:PAYLOAD_BYTES])
        more = len(self.first) > len(data) or self.stream.cut or self.stream.gap
        return Sent(data, more or (total is not None and total > len(data)))


class HeadConnection:
    """Both directions, and a reader of each protocol that they may speak."""

    def __init__(
        self,
        key: bytes,
        born_ns: int,
        client: int,
        *,
        wanted: Container[str],
        unseen: bool = False,
        recall: Recall = no_head,
    ) -> None:
        """`wanted` are the protocols that are read: of options.HEADS.

        `recall` gives the bytes of a signature, of which the kernel suppressed the samples.
        """
        self.key = key
        self.born_ns = born_ns
        self.client = client & 1
        """The end that opened the connection."""
        self.unseen = unseen
        """Its handshake was not seen, but a SYN was."""
        self.proven = False
        """Its handshake was seen, or both ends take part in it: nobody forged it blindly."""
        self._wanted = wanted
        self._recall = recall
        self._directions: dict[int, Direction] = {}
        self._ssh: SshConnection | None = None
        self._http = HttpConnection(self.client) if "http" in wanted else None
        self._time_ns = 0
        """Kernel time of the last segment."""
        self._payload_seen = False

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        held = sum([direction.held for direction in self._directions.values()])
        readers = sum([reader.held for reader in (self._ssh, self._http) if reader is not None])
        return _CONNECTION_BYTES + held + readers

    @property
    def done(self) -> bool:
        """Whether nothing more can be reported of it."""
        if self._payload_seen:
            return True
        if self._http is not None and not self._http.is_over:
            return False
        return self._ssh is not None and self._ssh.done

    def add(self, sample: SegmentSample) -> list[HeadSeen]:
        """Take a segment of either end; what it shows."""
        direction = self._directions.get(sample.sender)
        if direction is None:
            first_seq = sample.seq if sample.start_seq is None else sample.start_seq
            direction = self._directions[sample.sender] = Direction(first_seq)
        if sample.head == "ssh":
            head = self._recall(sample.before) if sample.before else None
            if head is not None:
                direction.recall(sample.before, head)
            direction.note(sample)
        data = direction.add(sample)
        self.proven = self.proven or sample.proven
        return self._take(sample.sender, direction, data, sample.time_ns)

    def recall(self, sender: int, signature: int, time_ns: int) -> list[HeadSeen]:
        """Take an end whose bytes the kernel has all suppressed; what they show."""
        head = self._recall(signature)
        if head is None or sender in self._directions:
            return []
        direction = self._directions[sender] = Direction(0)
        direction.recall(signature, head)
        return self._take(sender, direction, direction.read(time_ns), time_ns)

    def links(self, sender: int) -> list[tuple[int, bytes]]:
        """The kernel's signatures of what an end has sent, each with all bytes up to there.

        Of what the kernel suppressed, only the last one is known.
        """
        direction = self._directions[sender]
        return [
            (signature, bytes(direction.first[:length]))
            for signature, length in direction.links.items()
            if length <= len(direction.first)
        ]

    def _take(self, sender: int, direction: Direction, data: bytes, time_ns: int) -> list[HeadSeen]:
        """Read the next bytes of an end; what they show."""
        if not data:
            return []
        self._time_ns = time_ns
        seen: list[HeadSeen] = []
        if self._ssh is not None:
            seen += self._ssh.feed(sender, data, time_ns)
        elif direction.first.startswith(SshConnection.BEGINNING) and "ssh" in self._wanted:
            seen += self._begin_ssh()
        if self._http is not None:
            seen += self._http.feed(sender, data, time_ns)
        if self._is_full and (self._http is None or self._http.is_over):
            seen += self._payload()
        return seen

    def finish(self, acked: tuple[int | None, int | None] = (None, None)) -> list[HeadSeen]:
        """End the connection; what was cut off is reported as far as it goes.

        `acked` is how many bytes of each end the other one has acknowledged, if that is known.
        """
        seen: list[HeadSeen] = []
        if self._ssh is not None:
            seen += self._ssh.finish()
        if self._http is not None:
            seen += self._http.finish(self._time_ns)
        return seen + self._payload(acked)

    def begin_tls(self, sender: int, seq: int) -> list[HeadSeen]:
        """End the reading: TLS begins at this sequence number of `sender`."""
        direction = self._directions.get(sender)
        if direction is not None:
            before = (seq - direction.first_seq) & _SEQ_MASK
            del direction.first[before:]
        return self.finish()

    @property
    def _is_full(self) -> bool:
        """Whether nothing of both ends is to be waited for."""
        return len(self._directions) == 2 and all(
            len(direction.first) >= PAYLOAD_BYTES for direction in self._directions.values()
        )

    @property
    def _is_taken(self) -> bool:
        """Whether another reader has found its protocol."""
        return self._ssh is not None or (self._http is not None and self._http.is_http)

    def _payload(self, acked: tuple[int | None, int | None] = (None, None)) -> list[HeadSeen]:
        """The first bytes of both ends, once, if they are wanted and any were sent."""
        if self._payload_seen or self._is_taken or "payload" not in self._wanted:
            return []
        sent = [
            self._directions[end].sent(acked[end]) if end in self._directions else Sent()
            for end in (self.client, 1 - self.client)
        ]
        if not any(one.data for one in sent):
            return []
        self._payload_seen = True
        time_ns = max([direction.time_ns for direction in self._directions.values()])
        return [PayloadSeen(time_ns, *sent)]

    def _begin_ssh(self) -> list[HeadSeen]:
        """One end has begun a banner: both are read, because some clients misspell theirs."""
        self._ssh = SshConnection(self.client)
        return [
            one
            for sender, direction in self._directions.items()
            if direction.first
            for one in self._ssh.feed(sender, bytes(direction.first), direction.time_ns)
        ]
