"""Frames into a stream of bytes that may take any part of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate


class ByteStream:
    """Remembers how much of the first frame was taken, so that it is continued, never repeated.

    `write` takes bytes and returns how many it took; it raises TimeoutError or BlockingIOError if
    it can take none now, any other OSError if it failed.
    """

    def __init__(self, write: Callable[[memoryview], int]) -> None:
        self._write = write
        self._begun = 0
        self.taken = 0
        """Bytes that `write` took, of whole frames and of the one begun."""

    def send(self, frames: Sequence[bytes]) -> int:
        """Write frames in order and return how many went whole; the others must come again.

        Raises what `write` raised as an error, if not one frame went whole.
        """
        view = memoryview(b"".join(frames))
        ends = list(accumulate(map(len, frames)))
        position = self._begun
        failure: OSError | None = None
        try:
            while position < len(view):
                position += self._write(view[position:])
        except (TimeoutError, BlockingIOError):
            pass
        except OSError as error:
            failure = error
        self.taken += position - self._begun
        whole = bisect_right(ends, position)
        self._begun = position - (ends[whole - 1] if whole else 0)
        if failure is not None and not whole:
            raise failure
        return whole


class LineStream(ByteStream):
    """Lines that each end in a newline."""

    def send(self, frames: Sequence[bytes]) -> int:
        """Write lines, given without their newline, as ByteStream writes frames."""
        return super().send([line + b"\n" for line in frames])
