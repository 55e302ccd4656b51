"""Lines to a RELP receiver, such as rsyslog's imrelp, which acknowledges each one.

A frame is ``TXNR SP COMMAND SP DATALEN [SP DATA] LF``. TXNR counts the client's frames from 1 to
999,999,999 and begins again; an answer has the number of what it answers. The source is the RELP
specification, https://www.rsyslog.com/doc/relp.html.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from deckwire.limits import RELP_FRAME_BYTES, RELP_WINDOW
from deckwire.output.spool.receiver import Receiver
from deckwire.output.spool.spool import SpooledLine


class RelpSocket(Protocol):
    """The connection that a session needs: TCP, or TLS over it."""

    def fileno(self) -> int:
        """The descriptor of the socket."""
        ...

    def settimeout(self, seconds: float, /) -> None:
        """Set how long one call may wait."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Receive; b"" if the peer has closed."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


Connect = Callable[[], RelpSocket]
"""Makes a connection; raises OSError."""

_OFFER = b"relp_version=0\nrelp_software=deckwire\ncommands=syslog"
_LAST_NUMBER = 999_999_999
_ANSWER_S = 30.0
"""Seconds without an answer after which the connection counts as broken."""
_CLOSE_S = 1.0
_REASON_LENGTH = 80
_READ_BYTES = 65_536
_HEADER = re.compile(rb"(\d{1,9}) ([a-z_]{1,32}) (\d{1,9})(?: |(?=\n))")
_HEADER_BYTES = 64
_CODE = re.compile(rb"(\d{3})(?: ([^\n]*))?")


class RelpReceiver(Receiver):
    """One RELP session at a time."""

    window = RELP_WINDOW

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._session: _Session | None = None

    def connect(self) -> None:
        """Connect and open the session, if none is open."""
        self._open()

    def send(self, lines: Sequence[SpooledLine]) -> None:
        """Send one frame a line."""
        self._open().send(lines)

    def acknowledged(self, seconds: float) -> int:
        """Number of the last line up to which all are acknowledged; 0 if none is new."""
        return self._session.acknowledged(seconds) if self._session is not None else 0

    def close(self) -> None:
        """Close the session, if it stands, and the connection."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self) -> _Session:
        if self._session is None:
            self._session = _Session(self._connect())
        return self._session


class _Session:
    """The frames of one connection. Its methods raise OSError when the session is over."""

    def __init__(self, connected: RelpSocket) -> None:
        """Open the session. The connection is closed if that fails."""
        self._socket = connected
        self._socket.settimeout(_ANSWER_S)
        self._readable = select.poll()
        self._readable.register(connected.fileno(), select.POLLIN)
        self._input = b""
        self._number = 0
        """TXNR of the last frame sent."""
        self._pending: dict[int, int] = {}
        """Line numbers of what is not acknowledged, by TXNR, in order."""
        self._answered: set[int] = set()
        """TXNRs that were acknowledged before one that was sent earlier."""
        self._heard = time.monotonic()
        """When the last acknowledgement came, or the first line after it was sent."""
        try:
            self._socket.sendall(self._frame(b"open", _OFFER))
            self._await_opening()
        except OSError:
            self._socket.close()
            raise

    def send(self, lines: Sequence[SpooledLine]) -> None:
        """Send one frame a line."""
        if not self._pending:
            self._heard = time.monotonic()
        frames = []
        for line in lines:
            frames.append(self._frame(b"syslog", line.text))
            self._pending[self._number] = line.number
        self._socket.sendall(b"".join(frames))

    def acknowledged(self, seconds: float) -> int:
        """Number of the last line up to which all are acknowledged; 0 if none is new."""
        for number, command, data in self._read(seconds if self._pending else 0.0):
            if command == b"serverclose":
                raise ConnectionResetError("closed the session")
            _check(command, data)
            if number in self._pending:
                self._answered.add(number)
        through = 0
        while (first := next(iter(self._pending), 0)) in self._answered:
            through = self._pending.pop(first)
            self._answered.discard(first)
        now = time.monotonic()
        if through or not self._pending:
            self._heard = now
        elif now - self._heard > _ANSWER_S:
            raise TimeoutError(f"has not acknowledged a line for {_ANSWER_S:.0f} s")
        return through

    def close(self) -> None:
        """Close the session, if nothing is pending, and the connection."""
        with suppress(OSError):
            if not self._pending:
                self._socket.settimeout(_CLOSE_S)
                self._socket.sendall(self._frame(b"close", b""))
        self._socket.close()

    def _await_opening(self) -> None:
        deadline = time.monotonic() + _ANSWER_S
        while not (answers := self._read(max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise TimeoutError("does not answer; is it a RELP receiver?")
        _, command, data = answers[0]
        _check(command, data)

    def _frame(self, command: bytes, data: bytes) -> bytes:
        self._number = self._number % _LAST_NUMBER + 1
        if not data:
            return b"%d %b 0\n" % (self._number, command)
        return b"%d %b %d %b\n" % (self._number, command, len(data), data)

    def _read(self, seconds: float) -> list[tuple[int, bytes, bytes]]:
        """Frames that came, after waiting so long for the first: TXNR, command, data."""
        # TLS holds nothing back: a record is never longer than what is read here at once.
        if not self._readable.poll(seconds * 1_000):
            return []
        try:
            data = self._socket.recv(_READ_BYTES)
        except (TimeoutError, BlockingIOError):
            return []
        if not data:
            raise ConnectionResetError("closed the connection")
        self._input += data
        frames = []
        while (frame := self._next_frame()) is not None:
            frames.append(frame)
        return frames

    def _next_frame(self) -> tuple[int, bytes, bytes] | None:
        """Take the next whole frame from the input; None if more is needed."""
        header = _HEADER.match(self._input)
        if header is None:
            if len(self._input) > _HEADER_BYTES or b"\n" in self._input:
                raise ConnectionAbortedError("does not answer in RELP")
            return None
        number, command, length = int(header[1]), header[2], int(header[3])
        if length > RELP_FRAME_BYTES:
            raise ConnectionAbortedError("answers with a frame that is too long")
        end = header.end() + length
        if len(self._input) <= end:
            return None
        if self._input[end : end + 1] != b"\n":
            raise ConnectionAbortedError("does not answer in RELP")
        data, self._input = self._input[header.end() : end], self._input[end + 1 :]
        return number, command, data


def _check(command: bytes, data: bytes) -> None:
    """Raise OSError unless this is an answer that says OK."""
    code = _CODE.match(data)
    if command != b"rsp" or code is None:
        raise ConnectionAbortedError("does not answer in RELP")
    if code[1] != b"200":
        reason = ascii((code[2] or b"").decode("utf-8", "replace"))[1:-1][:_REASON_LENGTH]
        raise ConnectionAbortedError(f"answers {code[1].decode()} {reason}")
