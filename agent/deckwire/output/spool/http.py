"""Lines to an HTTP receiver: batches of newline-delimited JSON by POST. Only it imports http.

A request has up to HTTP_BATCH_LINES lines, each followed by a newline, compressed by gzip. The
answer is about the whole batch: see `HttpReceiver`.
"""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time

from deckwire.limits import HTTP_ANSWER_BYTES, HTTP_BATCH_LINES
from deckwire.output.spool.receiver import BusyError, Receiver, RefusedError
from deckwire.output.spool.spool import SpooledLine

Connect = Callable[[], http.client.HTTPConnection]
"""Makes a connection that is not open yet, with a timeout set; it may be one over TLS."""

_CONTENT = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
_GZIP_LEVEL = 1
"""Higher levels take twice the CPU for a tenth less bytes."""
_ABOUT_THE_BATCH = frozenset({400, 406, 409, 410, 411, 413, 414, 415, 416, 417, 418, 421, 422})
"""Client errors that the same batch will meet again."""
_REDIRECT = range(300, 400)
_REASON_LENGTH = 60


class HttpReceiver(Receiver):
    """Sends one batch at a time, and waits for its answer.

    - 2xx: the receiver has the lines.
    - 429 and 5xx: it is busy. Retry-After, in seconds or as a date, says how long.
    - 400, 413, 422 and other answers about the batch: it will never take these lines.
    - Any other answer, such as 401, 403, 404 or a redirection: the output or the receiver must be
      corrected, and the lines wait.
    """

    window = HTTP_BATCH_LINES

    def __init__(
        self, connect: Connect, target: str, credentials: Callable[[], dict[str, str]]
    ) -> None:
        """`target` is the path with its query.

        `credentials` gives headers for all requests of one connection; it may raise OSError.
        """
        self._make = connect
        self._target = target
        self._credentials = credentials
        self._headers: dict[str, str] = {}
        self._connection: http.client.HTTPConnection | None = None
        self._acknowledged = 0
        self._refusal: RefusedError | None = None

    def connect(self) -> None:
        """Connect, if no connection stands."""
        self._open()

    def send(self, lines: Sequence[SpooledLine]) -> None:
        """Post one batch, and read what the receiver makes of it."""
        body = gzip.compress(b"".join(line.text + b"\n" for line in lines), _GZIP_LEVEL)
        status, reason, wait = self._post(self._open(), body)
        through = lines[-1].number
        if 200 <= status < 300:
            self._acknowledged = through
        elif status in _ABOUT_THE_BATCH:
            self._refusal = RefusedError(through, f"answers {status} {reason}")
        elif status == 429 or status >= 500:
            raise BusyError(f"answers {status} {reason}", wait)
        elif status in _REDIRECT:
            raise ConnectionAbortedError(f"answers {status}: it is at another address")
        else:
            raise ConnectionAbortedError(f"answers {status} {reason}")

    def acknowledged(self, seconds: float) -> int:
        """Number of the last line of a batch that was taken; 0 if none was."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal
        through, self._acknowledged = self._acknowledged, 0
        return through

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._headers = self._credentials() | _CONTENT
            connection = self._make()
            try:
                connection.connect()
            except OSError:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _post(
        self, connection: http.client.HTTPConnection, body: bytes
    ) -> tuple[int, str, float | None]:
        """Status, reason and seconds to wait, from the receiver's answer."""
        try:
            connection.request("POST", self._target, body, self._headers)
            answer = connection.getresponse()
            too_long = len(answer.read(HTTP_ANSWER_BYTES + 1)) > HTTP_ANSWER_BYTES
        except http.client.HTTPException as error:
            self.close()
            raise ConnectionAbortedError(f"does not answer in HTTP: {_plain(str(error))}") from None
        if too_long or answer.will_close:
            self.close()
        return answer.status, _plain(answer.reason), _seconds(answer.getheader("Retry-After"))


def _plain(text: str) -> str:
    return ascii(text)[1:-1][:_REASON_LENGTH]


def _seconds(retry_after: str | None) -> float | None:
    """Seconds from now, of a Retry-After header (RFC 9110, 10.2.3); None if it has none."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        # A number of more digits is cut by the courier anyway.
        return float(retry_after[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    return None
