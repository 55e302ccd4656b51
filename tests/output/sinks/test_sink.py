"""The queue and the thread of every sink, with a receiver made of plain Python."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.sink import ReceiverGoneError, Sink, SinkCounters
from tests.support.rsyslog_server import wait_until


class Receiver(Sink):
    """Takes lines while `open` is set; raises the errors it is given, one a delivery."""

    scheme = "test"

    def __init__(self, capacity: int = 10) -> None:
        super().__init__("test", capacity)
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        self.errors: list[OSError] = []
        self.got: list[bytes] = []
        self.reopened = 0
        self.released = 0
        self.most = 1000

    def _deliver(self, lines: Sequence[bytes]) -> int:
        self.waiting.set()
        self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        taken = lines[: self.most]
        self.got += taken
        return len(taken)

    def _reopen(self) -> None:
        self.reopened += 1
        if self.errors:
            raise self.errors.pop(0)

    def _release(self) -> None:
        self.released += 1


def conserved(counters: SinkCounters) -> bool:
    lost = sum(counters.dropped.values())
    return counters.offered == counters.written + counters.queued + lost


def offer(sink: Sink, count: int, start: int = 0) -> list[bool]:
    return [sink.offer(b"%d" % number) for number in range(start, start + count)]


def test_lines_go_in_order_and_are_flushed_by_close() -> None:
    sink = Receiver(1000)
    assert all(offer(sink, 500))
    sink.start()
    sink.close(PATIENCE_SECONDS)
    assert sink.got == [b"%d" % number for number in range(500)]
    assert sink.counters() == SinkCounters(500, 500, 0, {}, {}, "")
    assert sink.released == 1


def test_a_full_queue_drops_the_newest_and_counts_them() -> None:
    sink = Receiver(10)
    assert offer(sink, 13) == [True] * 10 + [False] * 3
    assert sink.counters() == SinkCounters(13, 0, 10, {"queue_full": 3}, {}, "")
    sink.start()
    sink.close(PATIENCE_SECONDS)
    assert sink.got == [b"%d" % number for number in range(10)]


def test_a_receiver_that_hangs_blocks_neither_offer_nor_close() -> None:
    sink = Receiver(10)
    sink.open.clear()
    sink.start()
    sink.offer(b"0")
    assert sink.waiting.wait(PATIENCE_SECONDS)
    assert offer(sink, 20, 1) == [True] * 9 + [False] * 11
    assert conserved(sink.counters())
    sink.close(0.01)
    assert sink.counters() == SinkCounters(21, 0, 0, {"queue_full": 11, "unsent": 10}, {}, "")
    sink.open.set()
    wait_until(lambda: sink.released, "the thread ends")
    assert sink.counters() == SinkCounters(21, 0, 0, {"queue_full": 11, "unsent": 10}, {}, "")


def test_a_failed_line_is_tried_again_and_losses_meanwhile_count_by_the_failure() -> None:
    sink = Receiver(5)
    sink.errors = [OSError(errno.ENOSPC, "No space left on device")] * 1000
    offer(sink, 5)
    sink.start()
    wait_until(lambda: sink.counters().errors.get("write_error", 0) >= 2, "it tried again")
    assert not sink.offer(b"lost")
    assert sink.counters().queued == 5
    sink.errors.clear()
    sink.close(PATIENCE_SECONDS)
    counters = sink.counters()
    assert sink.got == [b"0", b"1", b"2", b"3", b"4"]
    assert counters.dropped == {"write_error": 1}
    assert counters.last_error == "test: No space left on device"
    assert conserved(counters)


def test_a_partial_delivery_continues_with_the_next_line() -> None:
    sink = Receiver(100)
    sink.most = 7
    offer(sink, 50)
    sink.start()
    sink.close(PATIENCE_SECONDS)
    assert sink.got == [b"%d" % number for number in range(50)]


def test_a_line_too_large_is_dropped_alone() -> None:
    sink = Receiver()
    sink.errors = [OSError(errno.EMSGSIZE, "Message too long")]
    offer(sink, 3)
    sink.start()
    sink.close(PATIENCE_SECONDS)
    assert sink.got == [b"1", b"2"]
    assert sink.counters() == SinkCounters(3, 2, 0, {"too_large": 1}, {}, "")


def test_a_receiver_gone_for_good_ends_the_sink() -> None:
    sink = Receiver()
    sink.errors = [ReceiverGoneError(errno.EPIPE, "Broken pipe")]
    offer(sink, 3)
    sink.start()
    wait_until(lambda: sink.released, "the thread ends")
    assert not sink.offer(b"3")
    assert sink.counters() == SinkCounters(
        4, 0, 0, {"closed": 4}, {"write_error": 1}, "test: Broken pipe"
    )


def test_reopen_happens_without_lines_and_its_failure_loses_none() -> None:
    sink = Receiver()
    sink.start()
    sink.reopen()
    wait_until(lambda: sink.reopened == 1, "reopened")
    sink.errors = [PermissionError(errno.EACCES, "Permission denied")]
    sink.reopen()
    wait_until(lambda: sink.counters().errors, "the failure is counted")
    sink.offer(b"0")
    sink.close(PATIENCE_SECONDS)
    assert sink.got == [b"0"]
    assert sink.counters().errors == {"reopen_error": 1}


def test_close_of_a_sink_that_never_started() -> None:
    sink = Receiver()
    offer(sink, 2)
    sink.close(0)
    assert sink.counters() == SinkCounters(2, 0, 0, {"unsent": 2}, {}, "")
    assert sink.released == 1


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 12), max_size=6),
    st.lists(st.sampled_from([errno.EMSGSIZE, errno.EPIPE]), max_size=3),
    st.integers(1, 5),
)
def test_offered_is_always_written_queued_or_dropped(
    bursts: list[int], failures: list[int], most: int
) -> None:
    sink = Receiver(10)
    sink.most = most
    sink.errors = [OSError(number, "x") for number in failures if number == errno.EMSGSIZE]
    sink.errors += [ReceiverGoneError(number, "x") for number in failures if number == errno.EPIPE]
    sink.start()
    for burst in bursts:
        offer(sink, burst)
        assert conserved(sink.counters())
    sink.close(PATIENCE_SECONDS)
    counters = sink.counters()
    assert counters.queued == 0
    assert counters.written == len(sink.got)
    assert conserved(counters)
