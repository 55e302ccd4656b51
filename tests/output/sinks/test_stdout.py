"""Lines on standard output, with readers that wait or go away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.stdout import StdoutSink
from tests.support.rsyslog_server import wait_until

LINE = b"x" * 1000


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    ends = list(os.pipe())
    yield ends
    for end in ends:
        os.close(end)


def test_lines_arrive_and_the_descriptor_stays_open(pipe: list[int]) -> None:
    sink = StdoutSink(pipe[1])
    sink.start()
    sink.offer(b"one")
    sink.offer(b"two")
    sink.close(PATIENCE_SECONDS)
    os.write(pipe[1], b"still open\n")
    assert os.read(pipe[0], 100) == b"one\ntwo\nstill open\n"


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_does_not_read_costs_counted_lines(pipe: list[int], blocking: bool) -> None:
    os.set_blocking(pipe[1], blocking)
    sink = StdoutSink(pipe[1], capacity=50)
    sink.start()
    wait_until(lambda: not sink.offer(LINE), "the pipe and the queue are full")
    sink.close(0.1)
    wait_until(lambda: not sink._thread.is_alive(), "the thread does not hang in write()")
    counters = sink.counters()
    assert counters.queued == 0
    assert counters.offered == counters.written + sum(counters.dropped.values())
    os.set_blocking(pipe[0], False)
    whole = os.read(pipe[0], 1 << 20).split(b"\n")[:-1]
    assert set(whole) == {LINE}
    assert len(whole) >= counters.written


def test_a_closed_reader_ends_the_sink_not_the_program() -> None:
    program = """
import sys, time
from deckwire.output.sinks.stdout import StdoutSink
sink = StdoutSink()
sink.start()
sys.stdin.readline()
while sink.offer(b"line"):
    time.sleep(0.001)
sink.close(5)
counters = sink.counters()
assert counters.offered == counters.written + sum(counters.dropped.values())
print(counters.last_error, sorted(counters.dropped), file=sys.stderr)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"\n", 20)
    assert errors == b"stdout: Broken pipe ['closed']\n"
    assert process.returncode == 0
