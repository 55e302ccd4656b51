"""The signals of `deckwire run`, remembered from the process's first moment on.

The handlers only set flags, so a signal interrupts nothing. Start and main loop look at the flags
when they can act on them. This module is imported before all others, so it imports little.
"""

from __future__ import annotations

import os
import signal
import time

STOP = (signal.SIGTERM, signal.SIGINT)
RELOAD = signal.SIGHUP
ALL = (*STOP, RELOAD)

ENDING_SECONDS = 8.0
"""How long the loader may still take after a request to stop: systemd allows 20 s for the end."""


class Requests:
    """The requests that this process got by signals."""

    def __init__(self) -> None:
        self.stopping = False
        """SIGTERM or SIGINT came. It stays true."""
        self.reloading = False
        """SIGHUP came. The code that reloads first sets it to false."""
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def wait(self, fd: int, seconds: float) -> bool:
        """Waits until `fd` is readable or `seconds` have passed.

        Returns:
            False if this process is to stop and `fd` did not become readable within
            ENDING_SECONDS after that request.
        """
        import select  # noqa: PLC0415 - arm() need not wait for it

        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        deadline = time.monotonic() + seconds
        shortened = False
        while True:
            if self.stopping and not shortened:
                shortened = True
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
    """Returns this process's requests; the first call sets the handlers and unblocks the signals.

    The parent process may have blocked the signals until now, as deploy/deckwire.service does with
    SIGHUP, so that none is lost.
    """
    global _requests  # noqa: PLW0603 - handlers belong to the process too
    if _requests is None:
        _requests = Requests()
        for number in STOP:
            signal.signal(number, _requests._on_stop)
        signal.signal(RELOAD, _requests._on_reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
    return _requests


def disarm() -> None:
    """Ignores the signals from now on, so that they do not change the exit status."""
    for number in ALL:
        signal.signal(number, signal.SIG_IGN)
