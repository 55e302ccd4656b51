"""One connection with HTTP: from bytes in order to requests, each with its answer."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from deckwire.http.reader import Answer, AnswerReader, Outcome, Request, RequestReader

_DIRECTION_BYTES = 400
"""Memory of one direction without its bytes, about."""
_REQUEST_BYTES = 400
"""Memory of a request without its bytes, about."""
_ANSWER = b"HTTP/"
"""Every answer begins with these bytes, and no request does."""


class HttpSeen(NamedTuple):
    """A request, with the answer if that was seen."""

    time_ns: int
    """Kernel time of the segment that completed the request."""
    sender: int
    reversed: bool
    """The client of HTTP did not open the connection."""
    number: int
    """Its place among the requests of its end, from 0."""
    request: Request
    answer: Answer | None


class _Direction:
    """What one end sends: requests or answers, as its first bytes show."""

    def __init__(self) -> None:
        self.first = b""
        """Bytes that do not show yet what they begin."""
        self.requests: RequestReader | None = None
        self.answers: AnswerReader | None = None
        self.waiting: deque[tuple[int, Request]] = deque()
        """Requests of this end without an answer, and the times of the segments that completed
        them."""
        self.reported = 0
        """Requests that are no longer among them."""
        self.methods: deque[bytes] = deque()
        """Methods of requests of this end to which the other one has not answered."""

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        reader = self.requests or self.answers
        return (
            _DIRECTION_BYTES
            + len(self.first)
            + (0 if reader is None else reader.held)
            + sum([_REQUEST_BYTES + len(request.body) for _, request in self.waiting])
        )

    @property
    def outcome(self) -> Outcome:
        """What further bytes of this end can bring."""
        reader = self.requests or self.answers
        return Outcome.NEED_MORE if reader is None else reader.outcome


class HttpConnection:
    """Both directions. A request is reported with its answer; without one, at the end."""

    def __init__(self, opener: int) -> None:
        self._opener = opener
        """The end that opened the connection."""
        self._directions = (_Direction(), _Direction())
        self._answers: tuple[deque[Answer], deque[Answer]] = (deque(), deque())
        """Those that each end got, and whose requests are not complete."""
        self.is_http = False
        """A request was seen."""

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        return sum([direction.held for direction in self._directions])

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be reported."""
        return all(
            direction.outcome is not Outcome.NEED_MORE and not direction.waiting
            for direction in self._directions
        )

    def feed(self, sender: int, data: bytes, time_ns: int) -> list[HttpSeen]:
        """Take the next bytes of either end; the requests that are complete, answers included."""
        direction = self._directions[sender]
        if direction.requests is None and direction.answers is None:
            data, direction.first = direction.first + data, b""
            if data[: len(_ANSWER)] == _ANSWER:
                direction.answers = AnswerReader(lambda: self._next_method(1 - sender))
            elif _ANSWER.startswith(data):
                direction.first = data
                return []
            else:
                direction.requests = RequestReader()
        if direction.requests is not None:
            self._take_requests(sender, direction.requests.feed(data), time_ns)
        elif direction.answers is not None:
            self._answers[1 - sender].extend(direction.answers.feed(data))
        return self._report()

    def finish(self, time_ns: int) -> list[HttpSeen]:
        """End the connection at the time of its last segment; requests without an answer too."""
        for sender, direction in enumerate(self._directions):
            if direction.requests is not None:
                self._take_requests(sender, direction.requests.finish(), time_ns)
        for sender, direction in enumerate(self._directions):
            if direction.answers is not None:
                self._answers[1 - sender].extend(direction.answers.finish())
        return self._report(is_end=True)

    def _take_requests(self, sender: int, requests: list[Request], time_ns: int) -> None:
        direction = self._directions[sender]
        for request in requests:
            self.is_http = True
            direction.waiting.append((time_ns, request))
            direction.methods.append(request.line.method)

    def _next_method(self, sender: int) -> bytes:
        methods = self._directions[sender].methods
        return methods.popleft() if methods else b""

    def _report(self, *, is_end: bool = False) -> list[HttpSeen]:
        seen = []
        for sender, direction in enumerate(self._directions):
            answers = self._answers[sender]
            # Nothing more is learned of answers to these.
            is_last = is_end or self._directions[1 - sender].outcome is not Outcome.NEED_MORE
            while direction.waiting and (answers or is_last):
                time_ns, request = direction.waiting.popleft()
                answer = answers.popleft() if answers else None
                is_reversed, number = sender != self._opener, direction.reported
                seen.append(HttpSeen(time_ns, sender, is_reversed, number, request, answer))
                direction.reported = number + 1
        return seen
