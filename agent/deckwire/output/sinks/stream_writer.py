"""Writing whole frames into a byte stream that may take only a part of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate


class StreamWriter:
    """Remembers how much of a frame was taken, so that the frame is continued, never repeated.

    `write` takes bytes and returns how many it took. It raises TimeoutError or BlockingIOError if
    it can take none now, and any other OSError if it failed.
    """

    def __init__(self, write: Callable[[memoryview], int]) -> None:
        self._write = write
        self._begun = 0
        """Bytes taken of the first frame of the next call."""
        self.taken = 0
        """Bytes that `write` took since the start, a frame that is not whole yet included."""

    def send(self, frames: Sequence[bytes]) -> int:
        """Write frames in order and return how many are whole; the next call begins with the rest.

        Raises what `write` raised as an error, if no frame is whole.
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


class LineWriter(StreamWriter):
    """Writes lines, each ended by a newline."""

    def send(self, frames: Sequence[bytes]) -> int:
        """Write lines, given without their newline, as StreamWriter writes frames."""
        return super().send([line + b"\n" for line in frames])
