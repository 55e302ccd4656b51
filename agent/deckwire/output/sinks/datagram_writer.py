"""Writing one line a datagram: each goes whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class DatagramWriter:
    """Keeps an error that came after a success: a socket reports each error only once.

    `send_one` raises TimeoutError or BlockingIOError if the receiver takes nothing now, and any
    other OSError if it failed.
    """

    def __init__(self, send_one: Callable[[bytes], int]) -> None:
        self._send_one = send_one
        self._failure: OSError | None = None

    def send(self, lines: Sequence[bytes]) -> int:
        """Send lines in order and return how many went; the next call begins with the rest.

        Raises what `send_one` raised as an error; in the next call if some lines went before it.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        for sent, line in enumerate(lines):
            try:
                self._send_one(line)
            except (TimeoutError, BlockingIOError):
                return sent
            except OSError as error:
                if not sent:
                    raise
                self._failure = error
                return sent
        return len(lines)
