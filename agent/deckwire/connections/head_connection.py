"""One connection whose first bytes are being read: from sampled segments to bytes in order."""

from __future__ import annotations

from collections.abc import Container

from deckwire.abi.samples import SegmentSample
from deckwire.connections.http_connection import HttpConnection, HttpSeen
from deckwire.connections.ssh_connection import SshConnection, SshSeen
from deckwire.limits import HEAD_BYTES
from deckwire.tcp.reassembly import Stream

_CONNECTION_BYTES = 600
"""Memory of a connection without its directions, about."""
_DIRECTION_BYTES = 700
"""Memory of one direction without its bytes, about."""

HeadSeen = SshSeen | HttpSeen


class Direction:
    """The first bytes that one end sends, in order."""

    def __init__(self, first_seq: int) -> None:
        self.stream = Stream(first_seq)
        self.first = bytearray()
        """Up to HEAD_BYTES: a reader that begins late reads these first."""
        self.time_ns = 0
        """Kernel time of the last segment of them."""

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        return _DIRECTION_BYTES + self.stream.held + len(self.first)

    def add(self, sample: SegmentSample) -> bytes:
        """Take a segment; the bytes that are in order now."""
        self.stream.add(sample.seq, sample.payload, sample.claimed, sample.urgent_seq)
        data = self.stream.read()[: HEAD_BYTES - len(self.first)]
        self.first.extend(data)
        self.time_ns = sample.time_ns
        return data


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
    ) -> None:
        """`wanted` are the protocols that are read: of options.HEADS."""
        self.key = key
        self.born_ns = born_ns
        self.client = client & 1
        """The end that opened the connection."""
        self.unseen = unseen
        """Its handshake was not seen, but a SYN was."""
        self.proven = False
        """Its handshake was seen, or both ends take part in it: nobody forged it blindly."""
        self._wanted = wanted
        self._directions: dict[int, Direction] = {}
        self._ssh: SshConnection | None = None
        self._http = HttpConnection(self.client) if "http" in wanted else None
        self._time_ns = 0
        """Kernel time of the last segment."""

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        held = sum([direction.held for direction in self._directions.values()])
        readers = sum([reader.held for reader in (self._ssh, self._http) if reader is not None])
        return _CONNECTION_BYTES + held + readers

    @property
    def done(self) -> bool:
        """Whether nothing more can be reported of it."""
        if self._http is not None and not self._http.is_over:
            return False
        return self._ssh is not None and self._ssh.done

    def add(self, sample: SegmentSample) -> list[HeadSeen]:
        """Take a segment of either end; what it shows."""
        direction = self._directions.get(sample.sender)
        if direction is None:
            first_seq = sample.seq if sample.start_seq is None else sample.start_seq
            direction = self._directions[sample.sender] = Direction(first_seq)
        data = direction.add(sample)
        self.proven = self.proven or sample.proven
        if not data:
            return []
        self._time_ns = sample.time_ns
        seen: list[HeadSeen] = []
        if self._ssh is not None:
            seen += self._ssh.feed(sample.sender, data, sample.time_ns)
        elif direction.first.startswith(SshConnection.BEGINNING) and "ssh" in self._wanted:
            seen += self._begin_ssh()
        if self._http is not None:
            seen += self._http.feed(sample.sender, data, sample.time_ns)
        return seen

    def finish(self) -> list[HeadSeen]:
        """End the connection; what was cut off is reported as far as it goes."""
        seen: list[HeadSeen] = []
        if self._ssh is not None:
            seen += self._ssh.finish()
        if self._http is not None:
            seen += self._http.finish(self._time_ns)
        return seen

    def _begin_ssh(self) -> list[HeadSeen]:
        """One end has begun a banner: both are read, because some clients misspell theirs."""
        self._ssh = SshConnection(self.client)
        return [
            one
            for sender, direction in self._directions.items()
            if direction.first
            for one in self._ssh.feed(sender, bytes(direction.first), direction.time_ns)
        ]
