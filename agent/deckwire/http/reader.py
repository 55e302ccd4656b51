"""Reads one direction of HTTP/1: requests with the beginning of their bodies, or answers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from deckwire.http.body import Body
from deckwire.http.messages import (
    Headers,
    RequestLine,
    parse_headers,
    parse_request_line,
    parse_status,
)
from deckwire.limits import HEAD_BYTES, HTTP_BODY_BYTES

_INTERIM = range(100, 200)
_SWITCHED = 101
_GOOD = range(200, 300)
_NO_BODY = (204, 304)
_HEAD_END = re.compile(rb"\n\r?\n")
"""Its first byte is a fixed one, so that the search skips all others quickly."""
_HEAD_END_BYTES = 2
"""Bytes at the end of what was searched that may begin one."""
_SIMPLE_PARTS = 2


def _lines(head: bytes) -> list[bytes]:
    """The lines of a head, without their ends."""
    return [line.removesuffix(b"\r") for line in head.split(b"\n")]


class Outcome(Enum):
    """What further bytes can bring."""

    NEED_MORE = auto()
    DONE = auto()
    """What follows is no longer of interest, or no longer HTTP."""
    NOT_HTTP = auto()
    """The first bytes are none of HTTP."""


class Request(NamedTuple):
    """One request, as far as it was seen."""

    line: RequestLine
    headers: Headers
    whole: bool
    """The whole head was seen."""
    body: bytes
    """Its first HTTP_BODY_BYTES, without the framing of chunks."""
    body_length: int | None
    """As the head gives it, or counted if all of it was seen; None if unknown."""


class Answer(NamedTuple):
    """One answer, without those that are only interim."""

    status: int
    headers: Headers


class _Reader(ABC):
    """What both directions share. Bytes come in order, in pieces of any length."""

    def __init__(self) -> None:
        self.outcome = Outcome.NEED_MORE
        self._rest = b""
        self._searched = 0
        """Bytes of `_rest` in which no head ends."""
        self._is_begun = False
        """`_rest` begins with the first line of a message."""
        self._body: Body | None = None
        self._total = 0
        self._found = False
        """A message was seen, so what follows is not `NOT_HTTP`."""

    @property
    def held(self) -> int:
        """Bytes kept."""
        body = 0 if self._body is None else len(self._body.kept)
        return len(self._rest) + body

    def _take(self, data: bytes) -> None:
        if self.outcome is not Outcome.NEED_MORE:
            return
        self._rest += data[: HEAD_BYTES - self._total]
        self._total += len(data)
        while self.outcome is Outcome.NEED_MORE and self._step():
            pass
        if self._total >= HEAD_BYTES:
            self._close()

    def _close(self) -> None:
        """Nothing more comes: what is there counts as far as it goes."""
        if self.outcome is Outcome.NEED_MORE:
            self._cut()
            self._end()
        self._rest = b""

    def _step(self) -> bool:
        """Read one line, or more of a body; False if more bytes are needed."""
        if self._body is not None:
            return self._step_body(self._body)
        return self._step_head()

    def _step_head(self) -> bool:
        if not self._is_begun:
            # Before a request, servers take empty lines (RFC 9112, 2.2).
            self._rest = self._rest.lstrip(b"\r\n")
            line, newline, rest = self._rest.partition(b"\n")
            if not newline:
                return False
            if not self._is_first(line.removesuffix(b"\r")):
                self._end()
                return False
            if self._is_alone:
                self._rest = rest
                self._head_ended([line])
                return True
            self._is_begun, self._searched = True, 0
        found = _HEAD_END.search(self._rest, self._searched)
        if found is None:
            self._searched = max(0, len(self._rest) - _HEAD_END_BYTES)
            return False
        head, self._rest = self._rest[: found.start()], self._rest[found.end() :]
        self._is_begun = False
        self._head_ended(_lines(head))
        return True

    def _whole_lines(self) -> list[bytes]:
        """The lines of a head that was cut, without the last one, which was too."""
        return _lines(self._rest.rpartition(b"\n")[0])

    def _step_body(self, body: Body) -> bool:
        self._rest = body.take(self._rest)
        if not body.ended:
            self._body_grew(body)
            return False
        self._body = None
        self._body_ended(body)
        return True

    def _end(self) -> None:
        self.outcome = Outcome.DONE if self._found else Outcome.NOT_HTTP
        self._rest, self._is_begun, self._body = b"", False, None

    @abstractmethod
    def _is_first(self, line: bytes) -> bool:
        """Whether a message begins with this line."""

    @property
    def _is_alone(self) -> bool:
        """Whether no header fields follow the first line that was read last."""
        return False

    @abstractmethod
    def _head_ended(self, lines: list[bytes]) -> None:
        """Take a whole head."""

    @abstractmethod
    def _body_grew(self, body: Body) -> None:
        """Take notice of a body that has not ended."""

    @abstractmethod
    def _body_ended(self, body: Body) -> None:
        """Take a whole body."""

    @abstractmethod
    def _cut(self) -> None:
        """Take what is there of a message whose end was not seen."""


class RequestReader(_Reader):
    """The direction of a client."""

    def __init__(self) -> None:
        super().__init__()
        self._ready: list[Request] = []
        self._line: RequestLine | None = None
        self._is_simple = False
        self._headers: Headers = Headers()
        self._is_given = True
        """The last request whose head was seen is reported."""

    def feed(self, data: bytes) -> list[Request]:
        """Take the next bytes; the requests that they complete.

        One with a longer body is complete when as much of that was seen as is kept.
        """
        self._take(data)
        return self._taken()

    def finish(self) -> list[Request]:
        """End the direction; a request that was cut off, as far as it goes."""
        self._close()
        return self._taken()

    def _taken(self) -> list[Request]:
        ready, self._ready = self._ready, []
        return ready

    def _is_first(self, line: bytes) -> bool:
        self._line = parse_request_line(line)
        # Method and target: such a request has no header fields.
        self._is_simple = len(line.split()) == _SIMPLE_PARTS
        return self._line is not None

    @property
    def _is_alone(self) -> bool:
        return self._is_simple

    def _head_ended(self, lines: list[bytes]) -> None:
        self._found = True
        self._headers = headers = parse_headers(lines[1:])
        self._is_given = False
        if headers.is_chunked:
            self._body = Body(None, is_chunked=True)
        elif headers.get(b"content-length") is None or headers.length == 0:
            self._give(b"", 0)
        else:
            self._body = Body(headers.length)

    def _body_grew(self, body: Body) -> None:
        if body.length is not None and len(body.kept) >= HTTP_BODY_BYTES:
            self._give(bytes(body.kept), body.length)

    def _body_ended(self, body: Body) -> None:
        self._give(bytes(body.kept), body.counted)

    def _cut(self) -> None:
        body = self._body
        if body is not None:
            self._give(bytes(body.kept), body.length)
        elif self._is_begun and self._line is not None:
            self._found = True
            headers = parse_headers(self._whole_lines()[1:])
            self._ready.append(Request(self._line, headers, False, b"", None))

    def _give(self, body: bytes, length: int | None) -> None:
        if self._is_given or self._line is None:
            return
        self._is_given = True
        self._ready.append(Request(self._line, self._headers, True, body, length))
        if self._is_alone:
            # The answer ends the connection.
            self._end()


class AnswerReader(_Reader):
    """The direction of a server."""

    def __init__(self, next_method: Callable[[], bytes]) -> None:
        """`next_method` gives the method of the request that the next answer is for; b"" if it is
        not known. It is called once for each answer."""
        super().__init__()
        self._next_method = next_method
        self._ready: list[Answer] = []

    def feed(self, data: bytes) -> list[Answer]:
        """Take the next bytes; the answers whose heads they complete."""
        self._take(data)
        return self._taken()

    def finish(self) -> list[Answer]:
        """End the direction; an answer whose head was cut off, as far as it goes."""
        self._close()
        return self._taken()

    def _taken(self) -> list[Answer]:
        ready, self._ready = self._ready, []
        return ready

    def _is_first(self, line: bytes) -> bool:
        return parse_status(line) is not None

    def _head_ended(self, lines: list[bytes]) -> None:
        self._found = True
        answer = self._answer(lines)
        if answer is None:
            return
        self._ready.append(answer)
        method, headers = self._next_method(), answer.headers
        if answer.status == _SWITCHED or (method == b"CONNECT" and answer.status in _GOOD):
            # What follows is another protocol.
            self._end()
        elif method == b"HEAD" or answer.status in _NO_BODY:
            return
        elif headers.is_chunked:
            self._body = Body(None, is_chunked=True)
        elif headers.length != 0:
            self._body = Body(headers.length)

    def _body_grew(self, body: Body) -> None:
        """Nothing of it is used."""

    def _body_ended(self, body: Body) -> None:
        """Nothing of it is used."""

    def _cut(self) -> None:
        answer = self._answer(self._whole_lines()) if self._is_begun else None
        if answer is not None:
            self._found = True
            self._ready.append(answer)

    def _answer(self, lines: list[bytes]) -> Answer | None:
        """The answer of a head's lines; None if another one follows it."""
        status = parse_status(lines[0])
        if status is None or (status in _INTERIM and status != _SWITCHED):
            return None
        return Answer(status, parse_headers(lines[1:]))
