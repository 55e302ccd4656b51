"""A stand-in for DECNET's bus, written from its framing, and for its clients.

A frame is a header line ``VERB args``, a length of four bytes and a body. Clients send HELLO, PUB,
SUB and BYE; the server sends EVT. Nothing is acknowledged. It shares no code with the agent.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deckwire.lab.namespaces import PATIENCE_SECONDS

Message = dict[str, Any]


class BusServer:
    """A context manager: the bus listens inside ``with``, and forwards messages to subscribers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.published: list[tuple[str, Message]] = []
        """Topic and message of every PUB frame."""
        self.hellos: list[str] = []
        self.goodbyes = 0
        self._subscribers: list[tuple[str, socket.socket]] = []
        self._connections: list[socket.socket] = []
        self._changed = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End as a killed bus does: all connections break, and the socket is gone."""
        for one in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.path.unlink(missing_ok=True)

    def subscribed(self, pattern: str) -> bool:
        """Whether a client that is still there wants this pattern."""
        return any(wanted == pattern for wanted, _ in self._subscribers)

    def of(self, topic: str) -> list[Message]:
        """The messages of one topic so far."""
        return [message for published, message in list(self.published) if published == topic]

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Return as soon as `condition`, about this server, holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, (
                    f"not within {PATIENCE_SECONDS:.0f} s: {what}: {self.published[-3:]}"
                )
                self._changed.wait(min(left, 0.2))

    def send(self, topic: str, payload: Message) -> None:
        """Publish a message as another worker of DECNET does."""
        message = {"v": 1, "id": "0" * 32, "topic": topic, "type": "t", "ts": 1.0}
        self.forward(topic, json.dumps({**message, "payload": payload}).encode())

    def forward(self, topic: str, body: bytes) -> None:
        """Send an EVT frame to all whose pattern matches."""
        for pattern, connection in list(self._subscribers):
            if _matches(pattern, topic):
                self.send_raw(connection, _frame(f"EVT {topic}", body))

    def send_raw(self, connection: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(data)

    @property
    def connections(self) -> list[socket.socket]:
        """Those that are open."""
        return [one for one in self._connections if one.fileno() >= 0]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection.makefile("rb") as stream:
            while header := stream.readline(4_096):
                assert header.endswith(b"\n")
                length = int.from_bytes(_exactly(stream, 4), "big")
                assert length <= 1_048_576
                verb, _, argument = header[:-1].decode("ascii").partition(" ")
                self._obey(connection, verb, argument, _exactly(stream, length))
        with self._changed:
            self._subscribers = [one for one in self._subscribers if one[1] is not connection]
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            connection.close()

    def _obey(self, connection: socket.socket, verb: str, argument: str, body: bytes) -> None:
        with self._changed:
            match verb:
                case "HELLO":
                    self.hellos.append(argument)
                case "SUB":
                    self._subscribers.append((argument, connection))
                case "PUB":
                    message = json.loads(body)
                    assert set(message) == {"v", "id", "topic", "type", "ts", "payload"}
                    assert (message["v"], message["topic"]) == (1, argument)
                    assert len(bytes.fromhex(message["id"])) == 16
                    assert isinstance(message["ts"], float)
                    self.published.append((argument, message))
                case "BYE":
                    self.goodbyes += 1
                case _:
                    raise AssertionError(f"verb {verb!r}")
            self._changed.notify_all()


def _frame(header: str, body: bytes) -> bytes:
    return header.encode() + b"\n" + len(body).to_bytes(4, "big") + body


def _exactly(stream: Any, count: int) -> bytes:
    data: bytes = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _matches(pattern: str, topic: str) -> bool:
    """A ``*`` stands for one segment."""
    wanted, given = pattern.split("."), topic.split(".")
    return len(wanted) == len(given) and all(
        w in ("*", g) for w, g in zip(wanted, given, strict=True)
    )
