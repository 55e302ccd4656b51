"""Lines committed to a spool, from which a courier carries them to a receiver."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from deckwire.limits import SINK_QUEUE, SPOOL_BYTES
from deckwire.output.sinks.sink import Sink
from deckwire.output.spool.courier import Courier
from deckwire.output.spool.receiver import Receiver
from deckwire.output.spool.spool import Spool
from deckwire.resilience.report import report

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.-]+")
_NAME_LENGTH = 60
_ADVICE = {
    errno.ENOSPC: "start its receiver, or free space on the disk",
    errno.EDQUOT: "start its receiver, or make room in its quota",
    errno.EBUSY: "end the program that uses the spool",
    errno.EIO: "check the disk of the spool",
}


@dataclass(frozen=True, slots=True)
class SpoolFolder:
    """Where an output keeps its spool."""

    path: str
    max_bytes: int = SPOOL_BYTES

    def path_for(self, output: str) -> str:
        """The path of an output's database. No two outputs share one."""
        readable = _NOT_IN_A_NAME.sub("_", output)[:_NAME_LENGTH]
        unique = blake2b(output.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        return os.path.join(self.path, f"{readable}-{unique}.sqlite")


class SpooledSink(Sink):
    """A line counts as written when it is committed. A committed line arrives at least once.

    Lines that an earlier run left in the spool count as offered and written when it is opened.
    While the spool is full or its disk fails, lines wait in the queue. Lines that the receiver will
    never take count as ``refused``.
    """

    remedy = "make the spool's folder writable"

    def __init__(
        self, name: str, folder: SpoolFolder, receiver: Receiver, capacity: int = SINK_QUEUE
    ) -> None:
        super().__init__(name, capacity)
        self._spool = Spool(folder.path_for(name), folder.max_bytes, self._moved_aside)
        self._courier = Courier(name, self._spool, receiver, self._refused, self._spool_failed)
        self._carried = False
        """The courier runs."""
        # Lines of an earlier run are carried even if no new one comes.
        self.reopen()

    def failure(self) -> str:
        """Why the spool or the receiver does not work now; "" if both do."""
        return super().failure() or self._courier.failure

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

    def _has_opened(self) -> bool:
        return self._carried

    def _check_files(self) -> None:
        """Raise FileFaultError if a file that the next connection needs cannot be used."""
        return

    def _reopen(self) -> None:
        if self._carried:
            # While a file is wrong, the connection made with the one before is better than none.
            self._check_files()
            self._courier.retry()
        self._connect()

    def _release(self) -> None:
        if self._carried:
            self._courier.end(self._patience())
        self._spool.close()

    def _refused(self, lines: int) -> None:
        self._recount("refused", lines)

    def _spool_failed(self, error: OSError | None) -> None:
        """The courier met a failure of the spool, which the sink may have met before it."""
        if error is None:
            line = self._failures.worked()
        else:
            line = self._failures.failed("write_error", error, self._advice(error))
        if line is not None:
            report(line)

    def _moved_aside(self, path: str) -> None:
        # What was sent and not acknowledged is not in the new one.
        self._courier.retry()
        report(f"output {self.name}: the spool was damaged; moved to {path}; a new one is begun")
