"""Messages to DECNET's bus, and those that the bus has for this worker."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Sequence

from deckwire.bus.frames import Frame, FrameError, Reader, pack
from deckwire.bus.messages import (
    CONTROL_TOPIC,
    NAME,
    ORCHESTRATOR_PATTERN,
    Message,
    parse_event,
)
from deckwire.limits import BUS_INBOX, SINK_QUEUE
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.stream_socket import STALL_S, StreamSocket

_GREETING = b"".join(
    pack(frame)
    for frame in (
        Frame("HELLO", NAME),
        Frame("SUB", CONTROL_TOPIC),
        Frame("SUB", ORCHESTRATOR_PATTERN),
    )
)
_FATES = (
    *("bus_received_taken", "bus_received_ignored"),
    *("bus_received_dropped", "bus_received_malformed"),
)
_GOODBYE = pack(Frame("BYE", ""))


class BusSink(Sink):
    """Publishes lines ``TOPIC BODY`` over one connection, and keeps what arrives for `take`.

    It looks at the connection twice a second and connects again without waiting for a line, because
    the bus may have a message for this worker at any time.
    """

    scheme = "bus"
    remedy = "start DECNET's bus, or set bus to its socket"

    def __init__(self, path: str, capacity: int = SINK_QUEUE) -> None:
        super().__init__(f"{self.scheme}:{path}", capacity)
        self._path = path
        self._socket: StreamSocket | None = None
        self._plain: socket.socket | None = None
        self._reader = Reader()
        self._broken = False
        """The bus sent what is no frame."""
        self._inbox: deque[Message] = deque()
        self.received = dict.fromkeys(_FATES, 0)
        """Frames from the bus by what became of them. The keys stay, for the reader's thread."""

    def take(self) -> list[Message]:
        """The messages that arrived since the last call. For the capture's thread."""
        messages = []
        # Only this thread takes messages out, so the deque cannot become empty meanwhile.
        for _ in range(len(self._inbox)):
            messages.append(self._inbox.popleft())
        return messages

    # --- the sink's thread ---

    def _connect(self) -> None:
        self._find_end()
        if self._socket is not None:
            return
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plain.settimeout(STALL_S)
            plain.connect(self._path)
            plain.sendall(_GREETING)
        except OSError:
            plain.close()
            raise
        self._reader, self._broken = Reader(), False
        self._plain = plain
        self._socket = StreamSocket(plain, _published, receive=self._received)

    def _deliver(self, lines: Sequence[bytes]) -> int:
        return self._socket.send(lines) if self._socket is not None else 0

    def _recover(self, error: OSError) -> None:
        self._release()

    def _look(self) -> None:
        # A bus that is away is reported when there is something to publish.
        with contextlib.suppress(OSError):
            self._connect()

    def _unsettled_lines(self) -> int:
        # Never settled, so that `_look` is called as long as the sink lives.
        return 1 + (self._socket.unsettled if self._socket is not None else 0)

    def _release(self) -> None:
        if self._socket is None or self._plain is None:
            return
        with contextlib.suppress(OSError):
            self._plain.send(_GOODBYE, socket.MSG_DONTWAIT)
        in_doubt = self._socket.close(self._patience())
        self._socket = self._plain = None
        self._recount("in_doubt", in_doubt)

    def _find_end(self) -> None:
        if self._socket is not None and (self._socket.is_over() or self._broken):
            self._release()

    def _received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._sort(frame)
        except FrameError:
            self.received["bus_received_malformed"] += 1
            self._broken = True

    def _sort(self, frame: Frame) -> None:
        message = parse_event(frame)
        if message is None:
            self.received["bus_received_ignored"] += 1
        elif len(self._inbox) >= BUS_INBOX:
            self.received["bus_received_dropped"] += 1
        else:
            self.received["bus_received_taken"] += 1
            self._inbox.append(message)


def _published(line: bytes) -> bytes:
    topic, _, body = line.partition(b" ")
    return pack(Frame("PUB", topic.decode(), body))
