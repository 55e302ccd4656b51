"""One output: a bounded queue of finished lines, drained by a thread of its own."""

from __future__ import annotations

import errno
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
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
_LOOK_FIRST = 0.02
_LOOK_LAST = 0.5
"""Seconds between two looks at what became of the last lines, doubled while no others come."""
_GOODBYE_S = 0.5
"""Seconds that the end of a connection may take while lines wait for the next one."""
_CONCLUDE_S = 0.2
"""Seconds that a thread gets to count what is in doubt, after its time for closing is over."""
_QUIET_S = 60.0
"""Seconds without a failure after which the same failure is reported again."""

_FULL_ADVICE = "free space on the disk"


class ReceiverGoneError(OSError):
    """The receiver is gone for good: trying again is pointless."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums since the start, at one instant: offered = written + queued + all that was dropped.

    Causes of `dropped`: ``queue_full``, or while the receiver fails ``connect_error`` and
    ``write_error``; ``too_large`` (for a datagram); ``refused`` (UDP: the receiver's host said that
    nobody listens); ``closed`` (offered after the end, or the reader of stdout is gone);
    ``unsent`` (still queued when closing took too long); ``in_doubt`` (the kernel took the line,
    and when the receiver went away it was not sure whether it had it: it may have).
    """

    offered: int
    written: int
    """Lines that the kernel took and that did not turn out to be in doubt."""
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
    remedy = "start the receiver, or correct the output"
    """What the operator should do about a failure, if the error does not say it."""

    def __init__(self, name: str, capacity: int = SINK_QUEUE) -> None:
        self.name = name
        self._capacity = capacity
        self._lines: deque[bytes] = deque()
        self._change = threading.Condition()
        self._idle = False
        self._closing = False
        self._abandoned = False
        self._concluded = False
        self._reopening = False
        self._trouble: str | None = None
        self._offered = 0
        self._written = 0
        self._dropped: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._last_error = ""
        self._unconfirmed = 0
        self._reported: set[tuple[str, str]] = set()
        self._failed_at = 0.0
        self._down = False
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
        """Finish within `timeout` seconds; what is queued or not confirmed then is counted.

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
        else:
            self._thread.join(_CONCLUDE_S)
        self._conclude()

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

    def _recover(self, error: OSError) -> None:
        """After a failed delivery: close what is of no use any more, and count what is in doubt."""
        return

    def _advice(self, error: OSError) -> str:
        """What the operator should do about this failure."""
        return _FULL_ADVICE if error.errno in (errno.ENOSPC, errno.EDQUOT) else self.remedy

    def _look(self) -> None:
        """Find out what became of lines that are not settled."""
        return

    def _unsettled_lines(self) -> int:
        """Lines counted as written that may turn out to be in doubt: `_look` is called again."""
        return 0

    def _unconfirmed_lines(self) -> int:
        """Lines counted as written that are in doubt if nothing more is heard of the receiver."""
        return 0

    def _reopen(self) -> None:
        """What `reopen` asks for. Raises OSError: a ``reopen_error``, things stay as they are."""
        self._release()

    @abstractmethod
    def _release(self) -> None:
        """Close what is open; called at the end too."""

    @final
    def _recount(self, cause: str, lines: int) -> None:
        """Lines counted as written were not received, or may not have been."""
        with self._change:
            if lines and not self._concluded:
                self._written -= lines
                self._dropped[cause] += lines

    @final
    def _patience(self) -> Callable[[float], bool]:
        """For the end of a connection: waits so many seconds; True if no more time is left."""
        deadline = time.monotonic() + _GOODBYE_S

        def is_over(seconds: float) -> bool:
            with self._change:
                self._unconfirmed = self._unconfirmed_lines()
                self._change.wait_for(lambda: self._abandoned, seconds)
                return self._abandoned or (not self._closing and time.monotonic() >= deadline)

        return is_over

    # --- the thread ---

    @final
    def _run(self) -> None:
        pause = _PAUSE_FIRST
        look_s = _LOOK_FIRST
        while self._await_work(look_s):
            look_s = _LOOK_FIRST if self._lines else min(look_s * 2, _LOOK_LAST)
            if self._progress():
                pause = _PAUSE_FIRST
            else:
                self._rest(pause)
                pause = min(pause * 2, _PAUSE_LONGEST)
        self._release()

    def _await_work(self, look_s: float) -> bool:
        """Wait for lines, a wish to reopen or the time to look; False when all is done."""
        timeout = look_s if self._unsettled_lines() else None
        with self._change:
            self._idle = True
            self._change.wait_for(lambda: self._lines or self._closing or self._reopening, timeout)
            self._idle = False
            if self._abandoned:
                return False
            return bool(self._lines or self._reopening) or not self._closing

    def _progress(self) -> bool:
        """One try to reopen and deliver, or one look; False if it failed."""
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
            elif not reopening:
                self._look()
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
            self._recover(error)
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
                # These lines were counted as unsent already.
                self._conclude()
                return
            for _ in range(count):
                self._lines.popleft()
            self._written += count
            self._unconfirmed = self._unconfirmed_lines()
            if not count:
                return
            self._trouble = None
            works_again, self._down = self._down, False
        if works_again:
            _report(f"output {self.name}: works again")

    def _conclude(self) -> None:
        """Nothing more will be heard of the receiver."""
        with self._change:
            if self._thread.is_alive():
                self._recount("in_doubt", self._unconfirmed)
            self._concluded = True

    def _failed(self, kind: str, error: OSError) -> None:
        with self._change:
            self._errors[kind] += 1
            problem = f"{self.name}: {error.strerror or error}"
            self._last_error = problem
            if kind != "reopen_error":
                self._trouble = kind
            now = time.monotonic()
            if now - self._failed_at > _QUIET_S:
                self._reported.clear()
            self._failed_at = now
            if (kind, problem) in self._reported or isinstance(error, ReceiverGoneError):
                return
            self._reported.add((kind, problem))
            self._down = self._down or kind != "reopen_error"
        what = "not opened again" if kind == "reopen_error" else "its lines wait"
        _report(f"output {problem}; {self._advice(error)}; {what}")

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


def _report(line: str) -> None:
    """One line for the operator. Nobody may be there to read it: that ends no output."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(f"deckwire: {line}", file=sys.stderr, flush=True)


def endpoint(host: str, port: int) -> str:
    """``host:port`` as the user writes it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
