"""One connection of a stream socket, and the lines that are in doubt when it ends."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from deckwire.output.sinks.bytestream import ByteStream
from deckwire.output.sinks.doubt import Doubt
from deckwire.output.sinks.kernel_buffer import unsent_bytes

SETTLE_S = 1.0
"""Seconds after which a line that the peer's TCP acknowledged counts as read by the receiver, if
the connection still stands."""
_MARK_S = SETTLE_S / 10
_FULL_S = 0.05
_STEP_S = 0.005
_FIN_ACKNOWLEDGED = frozenset({5, 6, 7})
"""TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE of the kernel's tcp_states.h."""


class Connection:
    """Writes lines and knows, when the connection ends, which of them the receiver may not have.

    How it ended decides:

    - The peer closed without an error: it had read all that its kernel took. In doubt is what the
      peer's kernel had not acknowledged: it was under way, or was written after the peer's FIN.
    - The connection broke (a reset, or no answer): the peer's kernel may have thrown away what it
      had acknowledged and its program had not read. A Unix socket reports what was not read. For
      TCP nothing does, so what was written within the last SETTLE_S is in doubt too.
    """

    def __init__(
        self,
        connection: socket.socket,
        frame: Callable[[bytes], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = connection
        self._frame = frame
        self._clock = clock
        self._stream = ByteStream(connection.send)
        self._doubt = Doubt()
        self._whole = 0
        """Bytes of whole frames."""
        self._is_tcp = connection.family != socket.AF_UNIX
        self._marks: deque[tuple[float, int]] = deque()
        """When a look found so many lines confirmed; not settled yet."""
        self._settled = 0
        self._broken = False
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)

    @property
    def unconfirmed(self) -> int:
        """Lines that were not confirmed at the last look, or written since."""
        return self._doubt.unconfirmed

    @property
    def unsettled(self) -> int:
        """Lines that would be in doubt if the connection broke now."""
        return self._doubt.lines - self._settled

    def send(self, lines: Sequence[bytes]) -> int:
        """Write lines in order and return how many went whole, as ByteStream does."""
        if not self._doubt.room:
            time.sleep(_FULL_S)
            return 0
        frames = [self._frame(line) for line in lines[: self._doubt.room]]
        try:
            sent = self._stream.send(frames)
        except OSError as error:
            # EPIPE alone says only that the peer closed: close() finds out how.
            self._broken = self._is_tcp or not isinstance(error, BrokenPipeError)
            raise
        sizes = [len(frame) for frame in frames[:sent]]
        self._doubt.add(sizes)
        self._whole += sum(sizes)
        return sent

    def is_over(self) -> bool:
        """Whether the peer closed or the connection broke; if not, lines may be confirmed.

        Without this look before each write, what is written to a closed peer vanishes.
        """
        # First the bytes, then the peer: they count only if it lived when they were asked for.
        outstanding = unsent_bytes(self._socket.fileno())
        if self._has_ended():
            return True
        self._doubt.confirm(outstanding, self._stream.taken - self._whole)
        self._settle()
        return False

    def close(self, give_up: Callable[[float], bool]) -> int:
        """Close, and return how many lines are in doubt.

        `give_up` waits so many seconds and says whether to wait no longer for the peer's
        acknowledgement.
        """
        try:
            if not self._broken:
                self._say_goodbye(give_up)
            if self._broken:
                return self.unsettled
            if not self._is_tcp:
                # Read, or in the buffer of a peer that lives and may still read it.
                return 0
            self._confirm_acknowledged()
            return self._doubt.unconfirmed
        finally:
            self._socket.close()

    def _has_ended(self) -> bool:
        if not self._readable.poll(0):
            return False
        try:
            # Receivers of syslog say nothing; what one does say is thrown away.
            return not self._socket.recv(4096)
        except OSError:
            self._broken = True
            return True

    def _settle(self) -> None:
        if not self._is_tcp:
            # Confirmed means read.
            self._settled = self._doubt.confirmed
            return
        now = self._clock()
        while self._marks and self._marks[0][0] <= now - SETTLE_S:
            self._settled = self._marks.popleft()[1]
        if self.unsettled and (not self._marks or now - self._marks[-1][0] >= _MARK_S):
            self._marks.append((now, self._doubt.confirmed))

    def _say_goodbye(self, give_up: Callable[[float], bool]) -> None:
        """Close our side and wait for what the peer makes of it.

        Only so do a peer that read everything and one that closed with unread bytes look
        different, if the latter's reset is a moment behind its FIN.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._broken = True
            return
        while True:
            over = not self._is_tcp or self._fin_is_acknowledged()
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._broken = True
                return
            if over or give_up(_STEP_S):
                return
            # For who asks meanwhile how many are not acknowledged.
            self._confirm_acknowledged()

    def _confirm_acknowledged(self) -> None:
        outstanding = unsent_bytes(self._socket.fileno())
        # Our FIN is the last of these bytes.
        self._doubt.confirm(max(0, outstanding - 1), self._stream.taken - self._whole)

    def _fin_is_acknowledged(self) -> bool:
        state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state in _FIN_ACKNOWLEDGED
