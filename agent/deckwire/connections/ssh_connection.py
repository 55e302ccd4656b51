"""One connection whose first bytes are SSH: from sampled segments to banners and KEXINITs."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.abi.samples import SegmentSample
from deckwire.ssh.messages import KexInit
from deckwire.ssh.reader import Outcome, Reader
from deckwire.tcp.reassembly import Stream

_DIRECTION_BYTES = 700
"""Memory of one direction without its bytes, about."""


class SshSeen(NamedTuple):
    """What one end of an SSH connection said of itself."""

    time_ns: int
    """Kernel time of the segment that completed it."""
    sender: int
    is_client: bool
    """It is the SSH client."""
    reversed: bool
    """The SSH client did not open the connection."""
    banner: bytes | None
    kexinit: KexInit | None


class _Direction:
    """What one end sends."""

    def __init__(self, first_seq: int) -> None:
        self.stream = Stream(first_seq)
        self.reader = Reader()
        self.time_ns = 0
        self.reported = False

    @property
    def held(self) -> int:
        return _DIRECTION_BYTES + self.stream.held + self.reader.held

    @property
    def is_whole(self) -> bool:
        """Whether all that is reported of it was read."""
        return self.reader.kexinit is not None or self.reader.outcome is not Outcome.NEED_MORE

    def add(self, sample: SegmentSample) -> None:
        was_whole = self.is_whole
        self.stream.add(sample.seq, sample.payload, sample.claimed, sample.urgent_seq)
        self.reader.feed(self.stream.read())
        if not was_whole:
            self.time_ns = sample.time_ns


class SshConnection:
    """Both directions. An end is reported when it is whole and it is known who the SSH client is.

    Who opened the connection is not always the SSH client. The first messages after KEXINIT show
    it. Without them, at the end, who opened the connection counts as the SSH client.
    """

    def __init__(self, key: bytes, born_ns: int, client: int, *, unseen: bool = False) -> None:
        self.key = key
        self.born_ns = born_ns
        self.client = client & 1
        """The end that opened the connection."""
        self.unseen = unseen
        """Its handshake was not seen, but a SYN was."""
        self.proven = False
        """Its handshake was seen, or both ends take part in it: nobody forged it blindly."""
        self._ssh_client: int | None = None
        self._directions: dict[int, _Direction] = {}

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        return sum(direction.held for direction in self._directions.values())

    @property
    def done(self) -> bool:
        """Whether both ends were reported, or have nothing to report."""
        return len(self._directions) == 2 and all(
            direction.reported for direction in self._directions.values()
        )

    def add(self, sample: SegmentSample) -> list[SshSeen]:
        """Take a segment of either end; what it shows."""
        direction = self._directions.get(sample.sender)
        if direction is None:
            first_seq = sample.seq if sample.start_seq is None else sample.start_seq
            direction = self._directions[sample.sender] = _Direction(first_seq)
        direction.add(sample)
        self.proven = self.proven or sample.proven
        is_client = direction.reader.is_client
        if self._ssh_client is None and is_client is not None:
            self._ssh_client = sample.sender if is_client else 1 - sample.sender
        return self._report() if self._ssh_client is not None else []

    def finish(self) -> list[SshSeen]:
        """End the connection; what was cut off is reported as far as it goes."""
        for direction in self._directions.values():
            direction.reader.finish()
        return self._report()

    def _report(self) -> list[SshSeen]:
        seen = []
        ssh_client = self.client if self._ssh_client is None else self._ssh_client
        for sender, direction in self._directions.items():
            if direction.reported or not direction.is_whole:
                continue
            direction.reported = True
            reader = direction.reader
            if reader.banner is None and reader.kexinit is None:
                continue
            seen.append(
                SshSeen(
                    direction.time_ns,
                    sender,
                    sender == ssh_client,
                    ssh_client != self.client,
                    reader.banner,
                    reader.kexinit,
                )
            )
        return seen
