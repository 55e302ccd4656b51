"""How much of what was written still stands in a buffer of this host's kernel."""

from __future__ import annotations

import fcntl
import struct
import termios

_INT = struct.Struct("i")


def unsent_bytes(descriptor: int) -> int:
    """SIOCOUTQ: of TCP, bytes not acknowledged by the peer's TCP, a FIN counts as one, tcp(7).

    Of a Unix socket, the memory of what the peer has not read, unix(7): more than the bytes.
    Raises OSError.
    """
    return _asked(descriptor, termios.TIOCOUTQ)


def unread_bytes(descriptor: int) -> int:
    """FIONREAD at either end of a pipe: bytes that nobody has read. Raises OSError."""
    return _asked(descriptor, termios.FIONREAD)


def _asked(descriptor: int, request: int) -> int:
    answer: int = _INT.unpack(fcntl.ioctl(descriptor, request, bytes(_INT.size)))[0]
    return answer
