"""The base of all outputs: a bounded queue of lines, emptied by a thread of its own."""

from __future__ import annotations

import errno
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.failures import Failures, problem
from deckwire.resilience.report import report

_BATCH = 128
"""Lines handed over in one call at most."""
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
_FULL_ADVICE = "free space on the disk"


class ReceiverGoneError(OSError):
    """The receiver is gone for good, so trying again is pointless."""


@dataclass(frozen=True, slots=True)
class SinkCounters:
    """Sums since the start, at one instant: offered = written + queued + all dropped.

    Causes of `dropped`:

    - ``queue_full``: the queue was full while the receiver was slow.
    - ``connect_error``, ``write_error``: the queue was full while the receiver failed.
    - ``too_large``: no datagram holds the line.
    - ``closed``: the line was offered after the end, or the reader of stdout is gone.
    - ``refused``: UDP: the receiver's host answered that nobody listens. HTTP: the receiver
      answered that it will never take the line.
    - ``unsent``: the line was still queued when the time for closing was over.
    - ``in_doubt``: the kernel took the line, but the receiver went away and may not have it.
    """

    offered: int
    written: int
    """Lines that the kernel took, less those that turned out to be in doubt."""
    queued: int
    dropped: dict[str, int]
    """Lines lost by cause."""
    errors: dict[str, int]
    """Failed calls by kind: ``connect_error``, ``write_error``, ``reopen_error``."""
    last_error: str
    """The latest failed call as a text for the operator; "" if there was none."""


class Sink(ABC):
    """Takes lines without ever blocking, and hands them over in a thread of its own.

    A line stays at the head of the queue until it is handed over. While the receiver is away the
    queue fills; then the newest lines are dropped and counted. A line holds no newline.

    A subclass knows the receiver. It implements the methods in the last part of this class, and
    the thread calls them.
    """

    scheme: str
    """The kind of output, as the user writes it."""
    remedy = "start the receiver, or correct the output"
    """What the operator should do about a failure, if the error itself does not say it."""

    def __init__(self, name: str, capacity: int = SINK_QUEUE) -> None:
        """`name` is the output as the user wrote it, `capacity` the queue's length in lines."""
        self.name = name
        self._capacity = capacity
        self._change = threading.Condition()
        """Guards all that both threads use."""
        self._lines: deque[bytes] = deque()
        self._idle = False
        """The thread waits for lines."""
        self._reopening = False
        self._closing = False
        """No more lines are taken."""
        self._abandoned = False
        """The time for closing is over."""
        self._concluded = False
        """The counters are final."""
        self._offered = 0
        self._written = 0
        self._dropped: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._last_error = ""
        self._trouble: str | None = None
        """The kind of failure, as long as nothing was written after it."""
        self._unconfirmed = 0
        """Lines counted as written that are in doubt if the thread ends now."""
        self._failures = Failures(name)
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)

    # --- called by the capture's thread ---

    @final
    def start(self) -> None:
        """Begin to empty the queue."""
        self._thread.start()

    @final
    def offer(self, line: bytes) -> bool:
        """Queue a line; False if it was dropped (and counted). Never blocks."""
        return self.offer_all((line,)) == 1

    @final
    def offer_all(self, lines: Sequence[bytes]) -> int:
        """Queue lines and return how many; the others were dropped (and counted). Never blocks."""
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
        """Lines that would be queued now; it grows until somebody offers lines."""
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
        """Take no more lines, and end the thread when the queue is empty."""
        with self._change:
            self._closing = True
            self._change.notify()

    @final
    def close(self, timeout: float) -> None:
        """Finish within `timeout` seconds; count what is still queued or not confirmed then.

        A thread that is in a system call then is left alone. It does nothing when that returns.
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
    def counters(self) -> SinkCounters:
        """All counters at one instant."""
        with self._change:
            return SinkCounters(
                offered=self._offered,
                written=self._written,
                queued=len(self._lines),
                dropped=dict(self._dropped),
                errors=dict(self._errors),
                last_error=self._last_error,
            )

    def failure(self) -> str:
        """Why the output does not work now, as a text for the operator; "" if it works."""
        with self._change:
            return self._last_error if self._trouble is not None else ""

    def more_sums(self) -> dict[str, int]:
        """What became of written lines, by name, where the receiver acknowledges them."""
        return {}

    # --- the sink's thread ---

    @final
    def _run(self) -> None:
        """Hand lines over until the sink is finished; pause after each failure."""
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
        """Wait for lines, a request to reopen or the time to look; False when all is done."""
        timeout = look_s if self._unsettled_lines() else None
        with self._change:
            self._idle = True
            self._change.wait_for(lambda: self._lines or self._closing or self._reopening, timeout)
            self._idle = False
            if self._abandoned:
                return False
            return bool(self._lines or self._reopening) or not self._closing

    def _progress(self) -> bool:
        """Reopen, connect and hand over lines, or look at the last ones; False if that failed."""
        with self._change:
            reopening, self._reopening = self._reopening, False
            lines = list(islice(self._lines, _BATCH))
        doing = "reopen_error" if self._has_opened() else "connect_error"
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
        """Pause after a failure."""
        with self._change:
            if self._closing:
                self._change.wait_for(lambda: self._abandoned, min(seconds, _PAUSE_CLOSING))
            else:
                self._change.wait_for(lambda: self._closing or self._reopening, seconds)

    def _took(self, count: int) -> None:
        """The first `count` lines were handed over."""
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
            line = self._failures.worked()
        if line is not None:
            report(line)

    def _failed(self, kind: str, error: OSError) -> None:
        """Count a failed call, and report it if it is new."""
        with self._change:
            self._errors[kind] += 1
            self._last_error = problem(self.name, error)
            if kind != "reopen_error":
                self._trouble = kind
        # Somebody closed stdout on purpose: no reason to complain.
        if not isinstance(error, ReceiverGoneError):
            line = self._failures.failed(kind, error, self._advice(error))
            if line is not None:
                report(line)

    def _give_up(self) -> None:
        with self._change:
            self._closing = True
            self._drop_all("closed")

    def _drop_first(self, cause: str) -> None:
        with self._change:
            if self._lines:
                self._lines.popleft()
                self._dropped[cause] += 1

    def _drop_all(self, cause: str) -> None:
        if self._lines:
            self._dropped[cause] += len(self._lines)
            self._lines.clear()

    def _conclude(self) -> None:
        """Make the counters final: nothing more will be heard of the receiver."""
        with self._change:
            if self._thread.is_alive():
                self._recount("in_doubt", self._unconfirmed)
            self._concluded = True

    # --- what a subclass may call, in the sink's thread ---

    @final
    def _adopt(self, lines: int) -> None:
        """Count lines of an earlier run as offered and written."""
        with self._change:
            self._offered += lines
            self._written += lines

    @final
    def _recount(self, cause: str, lines: int) -> None:
        """Count lines as dropped that were counted as written, but may not have arrived."""
        with self._change:
            if lines and not self._concluded:
                self._written -= lines
                self._dropped[cause] += lines

    @final
    def _patience(self) -> Callable[[float], bool]:
        """A function for the end of a connection: wait so many seconds; True if time is over."""
        deadline = time.monotonic() + _GOODBYE_S

        def is_over(seconds: float) -> bool:
            with self._change:
                self._unconfirmed = self._unconfirmed_lines()
                self._change.wait_for(lambda: self._abandoned, seconds)
                return self._abandoned or (not self._closing and time.monotonic() >= deadline)

        return is_over

    # --- what a subclass implements; the sink's thread calls it ---

    def _connect(self) -> None:
        """Get ready to deliver, if that is needed; called before each delivery.

        Raises OSError: a ``connect_error``.
        """
        return

    @abstractmethod
    def _deliver(self, lines: Sequence[bytes]) -> int:
        """Hand over lines in order and return how many, 0 if the receiver is too slow.

        The next call begins with the lines that were left. After a partial success it returns; the
        next call will meet the error again. Raises OSError: a ``write_error``. With EMSGSIZE the
        first line is dropped as too large. ReceiverGoneError ends the sink.
        """

    def _recover(self, error: OSError) -> None:
        """After a failed call: close what is of no use now, and count what is in doubt."""
        return

    def _advice(self, error: OSError) -> str:
        """What the operator should do about this failure."""
        return _FULL_ADVICE if error.errno in (errno.ENOSPC, errno.EDQUOT) else self.remedy

    def _look(self) -> None:
        """Find out what became of lines that are not settled. Raises OSError."""
        return

    def _unsettled_lines(self) -> int:
        """Lines counted as written that may turn out to be in doubt: then `_look` is called."""
        return 0

    def _unconfirmed_lines(self) -> int:
        """Lines counted as written that are in doubt if nothing more is heard of the receiver."""
        return 0

    def _has_opened(self) -> bool:
        """Whether a failed reopening leaves something open from before."""
        return True

    def _reopen(self) -> None:
        """Open again. Raises OSError: a ``reopen_error``, and what is open stays open."""
        self._release()

    @abstractmethod
    def _release(self) -> None:
        """Close what is open; called at the end too."""
