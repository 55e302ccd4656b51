"""Reads the clear text at the beginning of one direction: lines, a banner, packets."""

from __future__ import annotations

from enum import Enum, auto
from struct import Struct

from deckwire.limits import SSH_BANNER_BYTES, SSH_HEAD_BYTES, SSH_PACKET_BYTES
from deckwire.ssh.messages import KEXINIT, KexInit, MalformedKexInit, parse_kexinit

_PACKET = Struct(">IBB")
"""Length of what follows the length, length of the padding, number of the message."""
_BEGINNING = b"SSH-"
_BEFORE_KEXINIT = range(2, 5)
"""IGNORE, UNIMPLEMENTED and DEBUG: an end may send them at any time (RFC 4253, 11)."""
_EXCHANGE = range(30, 35)
"""The messages of the methods of key exchange (RFC 4253, 8; RFC 4419; RFC 5656)."""
_FROM_CLIENT = (30, 32, 34)


class Outcome(Enum):
    """What further bytes can bring."""

    NEED_MORE = auto()
    DONE = auto()
    """All that is of interest was read."""
    NOT_SSH = auto()
    """The bytes are none of SSH, or no longer so."""


class Reader:
    """One direction. Bytes come in order, in pieces of any length.

    The banner is a line that begins with ``SSH-``, and other lines may precede it (RFC 4253, 4.2).
    Any other line counts as the banner if a KEXINIT follows it, because some clients misspell it.
    """

    def __init__(self) -> None:
        self.outcome = Outcome.NEED_MORE
        self.banner: bytes | None = None
        """As it was sent, without the line's end; cut at SSH_BANNER_BYTES."""
        self.kexinit: KexInit | None = None
        self.is_client: bool | None = None
        """Whether it is the SSH client's direction, by its first message after KEXINIT."""
        self._rest = b""
        self._line: bytes | None = None
        """The last line that is no banner by its beginning."""
        self._total = 0

    @property
    def held(self) -> int:
        """Bytes kept."""
        return len(self._rest)

    def feed(self, data: bytes) -> Outcome:
        """Take the next bytes."""
        if self.outcome is not Outcome.NEED_MORE:
            return self.outcome
        room = SSH_HEAD_BYTES - self._total
        self._total += len(data)
        self._rest += data[:room]
        while self.outcome is Outcome.NEED_MORE and self._step():
            pass
        if self.outcome is Outcome.NEED_MORE and len(data) > room:
            self._end(Outcome.DONE if self.banner is not None else Outcome.NOT_SSH)
        if self.outcome is not Outcome.NEED_MORE:
            self._rest = b""
        return self.outcome

    def finish(self) -> Outcome:
        """End the direction: a banner without the end of its line is one all the same."""
        if self.outcome is Outcome.NEED_MORE:
            if self.banner is None and self._rest.startswith(_BEGINNING):
                self.banner = self._rest[:SSH_BANNER_BYTES]
            self._end(Outcome.DONE if self.banner is not None else Outcome.NOT_SSH)
            self._rest = b""
        return self.outcome

    def _step(self) -> bool:
        """Read one line or one packet; False if more bytes are needed."""
        return self._take_packet() if self.banner is not None else self._take_line()

    def _take_line(self) -> bool:
        if self._line is not None and self._rest[:2] == b"\0\0":
            return self._take_misspelled()
        line, newline, rest = self._rest.partition(b"\n")
        if not newline:
            return False
        self._rest = rest
        if not line.startswith(_BEGINNING):
            self._line = line
            return True
        self._take_banner(line)
        if line.startswith(b"SSH-1.") and not line.startswith(b"SSH-1.99-"):
            # The first version of the protocol has no KEXINIT.
            self._end(Outcome.DONE)
        return True

    def _take_misspelled(self) -> bool:
        """After a line that is no banner by its beginning: it was one if a KEXINIT follows."""
        if len(self._rest) < _PACKET.size:
            return False
        if self._rest[_PACKET.size - 1] != KEXINIT:
            self._end(Outcome.NOT_SSH)
            return False
        self._take_banner(self._line or b"")
        return True

    def _take_banner(self, line: bytes) -> None:
        self.banner = line.removesuffix(b"\r")[:SSH_BANNER_BYTES]

    def _take_packet(self) -> bool:
        if len(self._rest) < _PACKET.size:
            return False
        length, padding, message = _PACKET.unpack_from(self._rest)
        end = 4 + length
        if not padding + 1 < length <= SSH_PACKET_BYTES:
            self._end(Outcome.DONE)
            return False
        if self.kexinit is not None and message in _EXCHANGE:
            self.is_client = message in _FROM_CLIENT
            self._end(Outcome.DONE)
            return False
        if message not in _BEFORE_KEXINIT and (message != KEXINIT or self.kexinit is not None):
            self._end(Outcome.DONE)
            return False
        if len(self._rest) < end:
            return False
        packet, self._rest = self._rest[5 : end - padding], self._rest[end:]
        if message == KEXINIT:
            try:
                self.kexinit = parse_kexinit(packet)
            except MalformedKexInit:
                self._end(Outcome.DONE)
        return True

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
