"""The thread that carries lines from a spool to their receiver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from deckwire.output.sinks.failures import Failures, problem
from deckwire.output.spool.receiver import BusyError, Receiver, RefusedError
from deckwire.output.spool.spool import Spool, SpoolError
from deckwire.resilience.report import report

_ANSWER_S = 0.2
"""Seconds to wait for acknowledgements before looking for new lines."""
_PAUSE_FIRST = 0.1
_PAUSE_LONGEST = 5.0
"""Seconds between two tries: doubled from the first to the longest."""
_ADVICE = "start the receiver, or correct the output"
_BUSY_LONGEST = 300.0
"""Longest pause that a receiver can ask for."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Sums since the start."""

    acknowledged: int = 0
    """Lines that the receiver acknowledged."""
    sent_again: int = 0
    """Lines sent again because no acknowledgement came. The receiver may have them twice."""
    refused: int = 0
    """Lines that the receiver will never take; they are set aside."""
    failed: int = 0
    """Failed tries to connect, to send or to get an acknowledgement."""


class Courier:
    """Sends each line until it is acknowledged, in order.

    Lines that were sent and not acknowledged when a connection ends are sent again.
    """

    def __init__(
        self,
        name: str,
        spool: Spool,
        receiver: Receiver,
        refused: Callable[[int], None],
        spool_failed: Callable[[OSError | None], None],
    ) -> None:
        """`refused` gets the number of lines each time some were refused.

        `spool_failed` gets each failure of the spool, and None when it works.
        """
        self._name = name
        self._spool = spool
        self._receiver = receiver
        self._refused = refused
        self._spool_failed = spool_failed
        self._failures = Failures(name)
        self._change = threading.Condition()
        self._news = False
        self._retrying = False
        self._ending = False
        self._sent_through = 0
        """Number of the last line sent on this connection."""
        self._ever_sent = 0
        """Number of the last line ever sent."""
        self._unanswered = 0
        """Lines sent on this connection and not acknowledged."""
        self._sums = Deliveries()
        self.failure = ""
        """Why the receiver does not work now; "" if it works."""
        self._thread = threading.Thread(target=self._run, name=f"courier {name}", daemon=True)

    def start(self) -> None:
        """Begin to carry lines."""
        self._thread.start()

    def wake(self) -> None:
        """There are new lines. A pause after a failure goes on."""
        with self._change:
            self._news = True
            self._change.notify()

    def retry(self) -> None:
        """The receiver may be back, or be another one: connect anew."""
        with self._change:
            self._retrying = True
            self._change.notify()

    def end(self, give_up: Callable[[float], bool]) -> None:
        """Deliver what waits, if the receiver takes it now, and end.

        `give_up` waits so many seconds, and returns whether to stop waiting.
        """
        with self._change:
            self._ending = True
            self._change.notify()
        while self._thread.is_alive() and not give_up(_ANSWER_S / 10):
            pass

    @property
    def sums(self) -> Deliveries:
        """All sums at one instant."""
        return self._sums

    def _run(self) -> None:
        pause = _PAUSE_FIRST
        while self._await_lines():
            try:
                self._carry()
                pause = _PAUSE_FIRST
            except RefusedError as refusal:
                self._set_aside(refusal)
            except OSError as error:
                self._failed(error)
                asked = error.seconds if isinstance(error, BusyError) else None
                if self._rest(pause if asked is None else min(asked, _BUSY_LONGEST)):
                    break
                pause = min(pause * 2, _PAUSE_LONGEST)
        self._receiver.close()

    def _await_lines(self) -> bool:
        """Wait until there are lines to carry; False at the end."""
        with self._change:
            self._change.wait_for(
                lambda: self._spool.lines or self._news or self._retrying or self._ending
            )
            self._news = False
            retrying, self._retrying = self._retrying, False
        if retrying:
            self._hang_up()
        return bool(self._spool.lines) or not self._ending

    def _rest(self, seconds: float) -> bool:
        """Pause after a failure; True if the end has come."""
        with self._change:
            self._change.wait_for(lambda: self._retrying or self._ending, seconds)
            return self._ending

    def _carry(self) -> None:
        """Send what the window has room for, and take in what was acknowledged meanwhile."""
        if not self._spool.lines:
            return
        self._receiver.connect()
        lines = self._spool.after(self._sent_through, self._receiver.window - self._unanswered)
        if lines:
            again = sum(line.number <= self._ever_sent for line in lines)
            self._sums = replace(self._sums, sent_again=self._sums.sent_again + again)
            self._sent_through = lines[-1].number
            self._ever_sent = max(self._ever_sent, self._sent_through)
            self._unanswered += len(lines)
            self._receiver.send(lines)
        through = self._receiver.acknowledged(_ANSWER_S)
        if through:
            self._settled(self._spool.remove_through(through))

    def _settled(self, lines: int) -> None:
        self._unanswered -= lines
        self._sums = replace(self._sums, acknowledged=self._sums.acknowledged + lines)
        if not lines:
            return
        self.failure = ""
        self._spool_failed(None)
        line = self._failures.worked()
        if line is not None:
            report(line)

    def _set_aside(self, refusal: RefusedError) -> None:
        try:
            lines = self._spool.set_aside_through(refusal.through, str(refusal))
        except OSError as error:
            self._failed(error)
            return
        self._unanswered -= lines
        self._sums = replace(self._sums, refused=self._sums.refused + lines)
        self._refused(lines)
        line = self._failures.failed(
            "refused", OSError(str(refusal)), "lines are kept in the table refused of its spool"
        )
        if line is not None:
            report(line)

    def _hang_up(self) -> None:
        self._receiver.close()
        self._sent_through = self._unanswered = 0

    def _failed(self, error: OSError) -> None:
        self._hang_up()
        self._sums = replace(self._sums, failed=self._sums.failed + 1)
        self.failure = problem(self._name, error)
        if isinstance(error, SpoolError):
            self._spool_failed(error)
            return
        line = self._failures.failed("connect_error", error, _ADVICE)
        if line is not None:
            report(line)
