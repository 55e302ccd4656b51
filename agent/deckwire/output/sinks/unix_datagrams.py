"""Datagrams to one Unix socket, and the lines that are in doubt when it goes away."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

from deckwire.output.sinks.datagrams import Datagrams
from deckwire.output.sinks.doubt import Doubt
from deckwire.output.sinks.kernel_buffer import unsent_bytes


class UnixDatagrams:
    """Knows at most how many datagrams the receiver has not read.

    The kernel says how much memory they take. When the receiver closes its socket they are thrown
    away, which looks as if they had been read: so what the kernel says counts only once the
    receiver is known to have lived after that.
    """

    def __init__(self, connected: socket.socket, path: str) -> None:
        self._socket = connected
        self._path = path
        self._inode = _inode(path)
        self._datagrams = Datagrams(connected.send)
        self._doubt = Doubt()

    @property
    def unsettled(self) -> int:
        """Lines that would be in doubt if the receiver went away now."""
        return self._doubt.unconfirmed

    def send(self, lines: Sequence[bytes]) -> int:
        """Send lines as Datagrams does."""
        outstanding = unsent_bytes(self._socket.fileno())
        # The receiver's queue is far shorter than the room.
        sent = self._datagrams.send(lines)
        # It took one, or said that it is full: it lived.
        self._doubt.confirm(outstanding)
        self._doubt.add(len(line) for line in lines[:sent])
        return sent

    def is_over(self) -> bool:
        """Whether another receiver, or none, has the path now; if not, lines may be confirmed."""
        outstanding = unsent_bytes(self._socket.fileno())
        if not self._is_served():
            return True
        self._doubt.confirm(outstanding)
        return False

    def close(self, give_up: Callable[[float], bool]) -> int:
        """Close, and return how many lines are in doubt, at most; there is nothing to wait for."""
        # What stands in the buffer of a receiver that lives may still be read.
        over = self.is_over()
        self._socket.close()
        return self._doubt.unconfirmed if over else 0

    def _is_served(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(self._path)
                return _inode(self._path) == self._inode
            except OSError:
                return False


def _inode(path: str) -> tuple[int, int, int]:
    # The time too: a number is used again soon.
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_ctime_ns
