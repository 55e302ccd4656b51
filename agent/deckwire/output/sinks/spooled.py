"""Lines committed to a spool, from which a courier carries them to a receiver."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from deckwire.limits import SINK_QUEUE
from deckwire.output.sinks.sink import Sink
from deckwire.output.spool.courier import Courier
from deckwire.output.spool.receiver import Receiver
from deckwire.output.spool.spool import Spool
from deckwire.resilience.report import report

_ADVICE = {
    errno.ENOSPC: "start its receiver, or free space on the disk",
    errno.EDQUOT: "start its receiver, or make room in its quota",
    errno.EBUSY: "end the program that uses the spool",
    errno.EIO: "check the disk of the spool",
}


class SpooledSink(Sink):
    """A line counts as written when it is committed. A committed line arrives at least once.

    Lines that an earlier run left in the spool count as offered and written when it is opened.
    While the spool is full or its disk fails, lines wait in the queue. Lines that the receiver will
    never take count as ``refused``.
    """

    remedy = "make the spool's folder writable"

    def __init__(
        self,
        name: str,
        spool_path: str,
        max_bytes: int,
        receiver: Receiver,
        advice: Callable[[OSError], str],
        capacity: int = SINK_QUEUE,
    ) -> None:
        """`advice` says what the operator should do about a failure of the receiver."""
        super().__init__(name, capacity)
        self._spool = Spool(spool_path, max_bytes, self._moved_aside)
        self._courier = Courier(name, self._spool, receiver, self._refused, advice)
        self._carried = False
        """The courier runs."""
        # Lines of an earlier run are carried even if no new one comes.
        self.reopen()

    def more_sums(self) -> dict[str, int]:
        """What became of the lines that are counted as written."""
        sums = self._courier.sums
        return {
            "spooled": self._spool.lines,
            "acknowledged": sums.acknowledged,
            "sent_again": sums.sent_again,
            "failed_receiver": sums.failed,
        }

    def _connect(self) -> None:
        self._adopt(self._spool.open())
        if not self._carried:
            self._carried = True
            self._courier.start()

    def _deliver(self, lines: Sequence[bytes]) -> int:
        count = self._spool.append(lines)
        if not count:
            raise OSError(errno.ENOSPC, "the spool is full")
        self._courier.wake()
        return count

    def _advice(self, error: OSError) -> str:
        return _ADVICE.get(error.errno or 0, self.remedy)

    def _reopen(self) -> None:
        self._connect()
        self._courier.retry()

    def _release(self) -> None:
        if self._carried:
            self._courier.end(self._patience())
        self._spool.close()

    def _refused(self, lines: int) -> None:
        self._recount("refused", lines)

    def _moved_aside(self, path: str) -> None:
        report(f"output {self.name}: the spool was damaged; moved to {path}; a new one is begun")
