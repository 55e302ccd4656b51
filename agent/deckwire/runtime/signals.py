"""The signals of `deckwire run`, remembered from the process's first moment on.

The handlers only set flags, so that a signal interrupts nothing: the start and the loop look at the
flags where they can act on them. Everything here is imported before all else, so it imports little.
"""

from __future__ import annotations

import os
import signal
import time

STOP = (signal.SIGTERM, signal.SIGINT)
RELOAD = signal.SIGHUP
ALL = (*STOP, RELOAD)

ENDING_SECONDS = 8.0
"""Longest that a start that is to stop waits for the loader: systemd allows 20 s for the end."""


class Requests:
    """What was asked of this process by signals."""

    def __init__(self) -> None:
        self.stopping = False
        """SIGTERM or SIGINT came. Never false again."""
        self.reloading = False
        """SIGHUP came. Whoever reloads sets it to false first."""
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def wait(self, fd: int, seconds: float) -> bool:
        """Waits until `fd` is readable or `seconds` have passed.

        Returns:
            False if this process is to stop and `fd` did not become readable. It gets
            ENDING_SECONDS for that from the request on.
        """
        import select  # noqa: PLC0415 - the first moment does without

        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        deadline = time.monotonic() + seconds
        hurried = False
        while True:
            if self.stopping and not hurried:
                hurried = True
                deadline = min(deadline, time.monotonic() + ENDING_SECONDS)
            left = deadline - time.monotonic()
            ready = {number for number, _ in poll.poll(max(left, 0) * 1_000)}
            if fd in ready:
                return True
            if self._woken in ready:
                os.read(self._woken, 4_096)
            elif left <= 0:
                return not self.stopping

    def _on_stop(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def _on_reload(self, _number: int, _frame: object) -> None:
        self.reloading = True


_requests: Requests | None = None


def arm() -> Requests:
    """Sets the handlers, the first time: the requests of this process.

    Whoever starts the process may block the signals until then (deploy/deckwire.service does). None
    of them is lost that way: they are unblocked here.
    """
    global _requests  # noqa: PLW0603 - handlers belong to the process as well
    if _requests is None:
        _requests = Requests()
        for number in STOP:
            signal.signal(number, _requests._on_stop)
        signal.signal(RELOAD, _requests._on_reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
    return _requests


def disarm() -> None:
    """Ignores the signals from now on: the process is about to end with the status that it has."""
    for number in ALL:
        signal.signal(number, signal.SIG_IGN)
