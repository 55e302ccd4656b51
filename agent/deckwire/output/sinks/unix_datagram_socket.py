"""A connected Unix datagram socket, and the lines that are in doubt when its receiver goes away."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

from deckwire.output.sinks.datagram_writer import DatagramWriter
from deckwire.output.sinks.kernel_buffer import unsent_bytes
from deckwire.output.sinks.unconfirmed import UnconfirmedLines


class UnixDatagramSocket:
    """Knows an upper bound of how many datagrams the receiver has not read.

    The kernel reports how much memory they take. When the receiver closes its socket the kernel
    drops them, and that looks as if they had been read. So a report counts only if the receiver is
    known to have lived after it.
    """

    def __init__(self, connected: socket.socket, path: str) -> None:
        self._socket = connected
        self._path = path
        self._inode = _inode(path)
        self._datagrams = DatagramWriter(connected.send)
        self._unconfirmed = UnconfirmedLines()

    @property
    def unsettled(self) -> int:
        """Lines that would be in doubt if the receiver went away now."""
        return self._unconfirmed.unconfirmed

    def send(self, lines: Sequence[bytes]) -> int:
        """Send lines as DatagramWriter does."""
        outstanding = unsent_bytes(self._socket.fileno())
        # No look at the room: the receiver's queue is far shorter.
        sent = self._datagrams.send(lines)
        # The receiver took a datagram, or reported that it is full: it lived.
        self._unconfirmed.confirm(outstanding)
        self._unconfirmed.add(len(line) for line in lines[:sent])
        return sent

    def is_over(self) -> bool:
        """Whether another receiver, or none, has the path now; if not, lines may be confirmed."""
        outstanding = unsent_bytes(self._socket.fileno())
        if not self._is_served():
            return True
        self._unconfirmed.confirm(outstanding)
        return False

    def close(self, give_up: Callable[[float], bool]) -> int:
        """Close, and return how many lines are in doubt, at most. It never waits."""
        # A receiver that lives may still read what is in its buffer.
        over = self.is_over()
        self._socket.close()
        return self._unconfirmed.unconfirmed if over else 0

    def _is_served(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(self._path)
                return _inode(self._path) == self._inode
            except OSError:
                return False


def _inode(path: str) -> tuple[int, int, int]:
    # The time too: an inode number is used again soon.
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_ctime_ns
