"""One output: a bounded queue of finished lines, drained by a thread of its own."""

from __future__ import annotations

import errno
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

from deckwire.limits import SINK_QUEUE

_BATCH = 128
"""Lines handed over at once at most."""
_PAUSE_FIRST = 0.1
_PAUSE_LONGEST = 5.0
_PAUSE_CLOSING = 0.2
"""Seconds between two tries: doubled from the first to the longest, and short while closing."""


class ReceiverGoneError(OSError):
    """The receiver is gone for good: trying again is pointless."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums since the start, at one instant: offered = written + queued + all that was dropped.

    Causes of `dropped`: ``queue_full``, or while the receiver fails ``connect_error`` and
    ``write_error``; ``too_large`` (for a datagram); ``refused`` (UDP: the receiver's host said that
    nobody listens); ``closed`` (offered after the end, or the reader of stdout is gone);
    ``unsent`` (still queued when closing took too long).
    """

    offered: int
    written: int
    """Lines that the kernel took; what becomes of them in its buffers is not known here."""
    queued: int
    dropped: dict[str, int]
    """Lines lost by cause."""
    errors: dict[str, int]
    """Failed calls by kind (``connect_error``, ``write_error``, ``reopen_error``): no lines."""
    last_error: str
    """The latest of them as a text for the operator, "" if there was none."""


class Sink(ABC):
    """Takes lines without ever blocking; a subclass knows how to hand them over.

    A line stays at the head of the queue until it is handed over, so nothing is lost while the
    receiver is away except what no longer fits: then the newest lines are dropped and counted.
    A line holds no newline.
    """

    scheme: str
    """The output's kind, as the user writes it."""

    def __init__(self, name: str, capacity: int = SINK_QUEUE) -> None:
        self.name = name
        self._capacity = capacity
        self._lines: deque[bytes] = deque()
        self._change = threading.Condition()
        self._idle = False
        self._closing = False
        self._abandoned = False
        self._reopening = False
        self._trouble: str | None = None
        self._offered = 0
        self._written = 0
        self._dropped: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)

    # --- for the capture's thread ---

    @final
    def start(self) -> None:
        """Begin to drain the queue."""
        self._thread.start()

    @final
    def offer(self, line: bytes) -> bool:
        """Queue a line; False if it was dropped (and counted). Never blocks."""
        return self.offer_all((line,)) == 1

    @final
    def offer_all(self, lines: Sequence[bytes]) -> int:
        """Queue lines; how many, the others were dropped (and counted). Never blocks."""
        with self._change:
            self._offered += len(lines)
            if self._closing:
                self._dropped["closed"] += len(lines)
                return 0
            room = self._capacity - len(self._lines)
            if room < len(lines):
                self._dropped[self._trouble or "queue_full"] += len(lines) - room
                lines = lines[:room]
            self._lines += lines
            if self._idle and lines:
                self._change.notify()
            return len(lines)

    @property
    @final
    def room(self) -> int:
        """Lines that would be taken now, at least as long as nobody else offers any."""
        with self._change:
            return 0 if self._closing else self._capacity - len(self._lines)

    @final
    def reopen(self) -> None:
        """Open the file, or connect, again: the name may mean something else by now."""
        with self._change:
            self._reopening = True
            self._change.notify()

    @final
    def finish(self) -> None:
        """Take no more lines and let the thread end when the queue is empty."""
        with self._change:
            self._closing = True
            self._change.notify()

    @final
    def close(self, timeout: float) -> None:
        """Finish within `timeout` seconds; what is queued then is dropped and counted.

        A thread still in a system call is left behind: it does nothing more when that returns.
        """
        self.finish()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        with self._change:
            self._abandoned = True
            self._drop_all("unsent")
            self._change.notify()
        if self._thread.ident is None:
            self._release()

    @final
    def counters(self) -> Counters:
        """All counters at one instant."""
        with self._change:
            return Counters(
                offered=self._offered,
                written=self._written,
                queued=len(self._lines),
                dropped=dict(self._dropped),
                errors=dict(self._errors),
                last_error=self._last_error,
            )

    # --- for the subclass, in the sink's own thread ---

    def _connect(self) -> None:
        """Get ready to deliver, if that is needed; called before each delivery.

        Raises OSError: a ``connect_error``.
        """
        return

    @abstractmethod
    def _deliver(self, lines: Sequence[bytes]) -> int:
        """Hand over lines in order and return how many went, 0 if the receiver is too slow.

        Those that did not go come again, first of all, in the next call. After a partial success
        returns rather than raises; the next call will meet the error again. Raises OSError: a
        ``write_error``; with EMSGSIZE the first line is dropped as too large; ReceiverGoneError
        ends the sink.
        """

    def _recover(self) -> None:
        """After a failed delivery: let go of what is of no use any more."""
        return

    def _reopen(self) -> None:
        """What `reopen` asks for. Raises OSError: a ``reopen_error``, things stay as they are."""
        self._release()

    @abstractmethod
    def _release(self) -> None:
        """Close what is open; called at the end too."""

    @final
    def _recount_as_refused(self) -> None:
        """A line counted as written turned out not to have been received."""
        with self._change:
            self._written -= 1
            self._dropped["refused"] += 1

    # --- the thread ---

    @final
    def _run(self) -> None:
        pause = _PAUSE_FIRST
        while self._await_work():
            if self._progress():
                pause = _PAUSE_FIRST
            else:
                self._rest(pause)
                pause = min(pause * 2, _PAUSE_LONGEST)
        self._release()

    def _await_work(self) -> bool:
        """Wait for lines or a wish to reopen; False when all is done."""
        with self._change:
            self._idle = True
            self._change.wait_for(lambda: self._lines or self._closing or self._reopening)
            self._idle = False
            return not self._abandoned and bool(self._lines or self._reopening)

    def _progress(self) -> bool:
        """One try to reopen and deliver; False if it failed."""
        with self._change:
            reopening, self._reopening = self._reopening, False
            lines = list(islice(self._lines, _BATCH))
        doing = "reopen_error"
        try:
            if reopening:
                self._reopen()
            if lines:
                doing = "connect_error"
                self._connect()
                doing = "write_error"
                self._took(self._deliver(lines))
        except ReceiverGoneError as error:
            self._failed(doing, error)
            self._give_up()
        except OSError as error:
            if doing == "write_error" and error.errno == errno.EMSGSIZE:
                self._drop_first("too_large")
                return True
            self._failed(doing, error)
            if doing == "reopen_error":
                return True
            self._recover()
            return False
        return True

    def _rest(self, seconds: float) -> None:
        with self._change:
            if self._closing:
                self._change.wait_for(lambda: self._abandoned, min(seconds, _PAUSE_CLOSING))
            else:
                self._change.wait_for(lambda: self._closing or self._reopening, seconds)

    def _took(self, count: int) -> None:
        with self._change:
            if self._abandoned:
                return
            for _ in range(count):
                self._lines.popleft()
            self._written += count
            if count:
                self._trouble = None

    def _failed(self, kind: str, error: OSError) -> None:
        with self._change:
            self._errors[kind] += 1
            self._last_error = f"{self.name}: {error.strerror or error}"
            if kind != "reopen_error":
                self._trouble = kind

    def _drop_first(self, cause: str) -> None:
        with self._change:
            if self._lines:
                self._lines.popleft()
                self._dropped[cause] += 1

    def _give_up(self) -> None:
        with self._change:
            self._closing = True
            self._drop_all("closed")

    def _drop_all(self, cause: str) -> None:
        if self._lines:
            self._dropped[cause] += len(self._lines)
            self._lines.clear()


def endpoint(host: str, port: int) -> str:
    """``host:port`` as the user writes it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
