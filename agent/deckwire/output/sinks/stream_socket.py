"""One connected stream socket, and the lines that are in doubt when the connection ends."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from deckwire.output.sinks.kernel_buffer import unsent_bytes
from deckwire.output.sinks.stream_writer import StreamWriter
from deckwire.output.sinks.unconfirmed import UnconfirmedLines

STALL_S = 0.5
"""Seconds that one call may wait for a slow receiver before the thread looks around."""
SETTLE_S = 1.0
"""Seconds after which a line that the peer's TCP acknowledged counts as read by the receiver, if
the connection still stands."""
_MARK_S = SETTLE_S / 10
_FULL_S = 0.05
"""Seconds to wait while too many lines are unconfirmed."""
_STEP_S = 0.005
"""Seconds between two looks at whether our FIN was acknowledged."""
_FIN_ACKNOWLEDGED = frozenset({5, 6, 7})
"""TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE of the kernel's tcp_states.h."""

_INT_BYTES = 4


class Connected(Protocol):
    """A connected stream socket, or TLS over one. Methods raise what those of a socket raise."""

    @property
    def family(self) -> int:
        """The address family."""
        ...

    def fileno(self) -> int:
        """The descriptor of the socket."""
        ...

    def settimeout(self, seconds: float, /) -> None:
        """Set how long one call may wait."""
        ...

    def send(self, data: memoryview, /) -> int:
        """Send, and return how many bytes were taken."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Receive; b"" if the peer has closed."""
        ...

    def getsockopt(self, level: int, name: int, length: int, /) -> bytes:
        """An option of the socket."""
        ...

    def shutdown(self, how: int, /) -> None:
        """End one direction."""
        ...

    def close(self) -> None:
        """Close the socket."""
        ...


class StreamSocket:
    """Writes lines and knows, when the connection ends, which of them the receiver may not have.

    That depends on how the connection ended:

    - The peer closed without an error. It had read all that its kernel took. In doubt is what the
      peer's kernel had not acknowledged: bytes on the way, or written after the peer's FIN.
    - The connection broke (a reset, or no acknowledgement). The peer's kernel may have dropped
      bytes that it had acknowledged and its program had not read. A Unix socket reports what was
      not read. For TCP nothing does, so the lines of the last SETTLE_S are in doubt too.
    """

    def __init__(
        self,
        connected: Connected,
        frame: Callable[[bytes], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`frame` makes the bytes of a line; `clock` gives seconds."""
        self._socket = connected
        self._frame = frame
        self._clock = clock
        self._writer = StreamWriter(connected.send)
        self._unconfirmed = UnconfirmedLines()
        self._whole = 0
        """Bytes of whole frames."""
        self._is_tcp = connected.family != socket.AF_UNIX
        self._marks: deque[tuple[float, int]] = deque()
        """Time of a look and the lines confirmed by then, as long as these are not settled."""
        self._settled = 0
        self._broken = False
        self._readable = select.poll()
        self._readable.register(connected, select.POLLIN)

    @property
    def unconfirmed(self) -> int:
        """Lines that were not confirmed at the last look, or written since."""
        return self._unconfirmed.unconfirmed

    @property
    def unsettled(self) -> int:
        """Lines that would be in doubt if the connection broke now."""
        return self._unconfirmed.lines - self._settled

    def send(self, lines: Sequence[bytes]) -> int:
        """Write lines in order and return how many are whole, as StreamWriter does."""
        if not self._unconfirmed.room:
            time.sleep(_FULL_S)
            return 0
        frames = [self._frame(line) for line in lines[: self._unconfirmed.room]]
        try:
            sent = self._writer.send(frames)
        except OSError as error:
            # EPIPE alone means only that the peer closed: close() finds out how.
            self._broken = self._is_tcp or not isinstance(error, BrokenPipeError)
            raise
        sizes = [len(frame) for frame in frames[:sent]]
        self._unconfirmed.add(sizes)
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
        self._unconfirmed.confirm(outstanding, self._writer.taken - self._whole)
        self._settle()
        return False

    def close(self, give_up: Callable[[float], bool]) -> int:
        """Close, and return how many lines are in doubt.

        `give_up` waits so many seconds, and returns whether to stop waiting for the peer's
        acknowledgement.
        """
        try:
            if not self._broken:
                self._finish_writing(give_up)
            if self._broken:
                return self.unsettled
            if not self._is_tcp:
                # Read, or in the buffer of a peer that lives and may still read it.
                return 0
            self._confirm_acknowledged()
            return self._unconfirmed.unconfirmed
        finally:
            self._socket.close()

    def _has_ended(self) -> bool:
        if not self._readable.poll(0):
            return False
        try:
            # Receivers of syslog send nothing; what one does send is dropped.
            return not self._socket.recv(4096)
        except BlockingIOError:
            # TLS received something that is no data.
            return False
        except OSError:
            self._broken = True
            return True

    def _settle(self) -> None:
        if not self._is_tcp:
            # A Unix socket confirms what was read.
            self._settled = self._unconfirmed.confirmed
            return
        now = self._clock()
        while self._marks and self._marks[0][0] <= now - SETTLE_S:
            self._settled = self._marks.popleft()[1]
        if self.unsettled and (not self._marks or now - self._marks[-1][0] >= _MARK_S):
            self._marks.append((now, self._unconfirmed.confirmed))

    def _finish_writing(self, give_up: Callable[[float], bool]) -> None:
        """Close our side and wait for what the peer makes of it.

        A peer that closes with unread bytes may send a FIN and, a moment later, a reset. Without
        this wait it looks like a peer that has read everything.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._broken = True
            return
        while True:
            over = not self._is_tcp or self._fin_is_acknowledged()
            if any(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR, _INT_BYTES)):
                self._broken = True
                return
            if over or give_up(_STEP_S):
                return
            # `unconfirmed` may be asked for meanwhile.
            self._confirm_acknowledged()

    def _confirm_acknowledged(self) -> None:
        outstanding = unsent_bytes(self._socket.fileno())
        # Our FIN is the last of these bytes.
        self._unconfirmed.confirm(max(0, outstanding - 1), self._writer.taken - self._whole)

    def _fin_is_acknowledged(self) -> bool:
        state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state in _FIN_ACKNOWLEDGED
