"""How many of the bytes written are still in a buffer of this host's kernel."""

from __future__ import annotations

import fcntl
import struct
import termios

_INT = struct.Struct("i")


def unsent_bytes(descriptor: int) -> int:
    """Bytes that the peer has not taken (SIOCOUTQ). Raises OSError.

    For TCP these are the bytes that the peer's TCP has not acknowledged; a FIN counts as one
    (tcp(7)). For a Unix socket it is the memory that unread bytes take: more than the bytes
    (unix(7)).
    """
    return _ioctl(descriptor, termios.TIOCOUTQ)


def unread_bytes(descriptor: int) -> int:
    """Bytes that nobody has read from a pipe, asked at either end (FIONREAD). Raises OSError."""
    return _ioctl(descriptor, termios.FIONREAD)


def _ioctl(descriptor: int, request: int) -> int:
    count: int = _INT.unpack(fcntl.ioctl(descriptor, request, bytes(_INT.size)))[0]
    return count
