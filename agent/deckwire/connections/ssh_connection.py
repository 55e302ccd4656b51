"""One connection whose first bytes are SSH: from bytes in order to banners and KEXINITs."""

from __future__ import annotations

from typing import Final, NamedTuple

from deckwire.ssh.messages import KexInit
from deckwire.ssh.reader import Outcome, Reader

_DIRECTION_BYTES = 300
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
    banner: bytes
    kexinit: KexInit | None


class _Direction:
    """What one end sends."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.time_ns = 0
        self.reported = False

    @property
    def held(self) -> int:
        return _DIRECTION_BYTES + self.reader.held

    @property
    def is_whole(self) -> bool:
        """Whether all that is reported of it was read."""
        return self.reader.kexinit is not None or self.reader.outcome is not Outcome.NEED_MORE

    def feed(self, data: bytes, time_ns: int) -> None:
        was_whole = self.is_whole
        self.reader.feed(data)
        if not was_whole:
            self.time_ns = time_ns


class SshConnection:
    """Both directions. An end is reported when it is whole and it is known who the SSH client is.

    Who opened the connection is not always the SSH client. The first messages after KEXINIT show
    it. Without them, at the end, who opened the connection counts as the SSH client.
    """

    BEGINNING: Final = b"SSH-"
    """With these bytes at either end a connection is SSH."""

    def __init__(self, opener: int) -> None:
        self._opener = opener
        """The end that opened the connection."""
        self._ssh_client: int | None = None
        self._directions: dict[int, _Direction] = {}

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        return sum([direction.held for direction in self._directions.values()])

    @property
    def done(self) -> bool:
        """Whether both ends were reported, or have nothing to report."""
        return len(self._directions) == 2 and all(
            direction.reported for direction in self._directions.values()
        )

    def feed(self, sender: int, data: bytes, time_ns: int) -> list[SshSeen]:
        """Take the next bytes of either end; what they show."""
        direction = self._directions.get(sender)
        if direction is None:
            direction = self._directions[sender] = _Direction()
        direction.feed(data, time_ns)
        is_client = direction.reader.is_client
        if self._ssh_client is None and is_client is not None:
            self._ssh_client = sender if is_client else 1 - sender
        return self._report() if self._ssh_client is not None else []

    def finish(self) -> list[SshSeen]:
        """End the connection; what was cut off is reported as far as it goes."""
        for direction in self._directions.values():
            direction.reader.finish()
        return self._report()

    def _report(self) -> list[SshSeen]:
        seen = []
        ssh_client = self._opener if self._ssh_client is None else self._ssh_client
        for sender, direction in self._directions.items():
            if direction.reported or not direction.is_whole:
                continue
            direction.reported = True
            reader = direction.reader
            if reader.banner is None:
                continue
            seen.append(
                SshSeen(
                    direction.time_ns,
                    sender,
                    sender == ssh_client,
                    ssh_client != self._opener,
                    reader.banner,
                    reader.kexinit,
                )
            )
        return seen
