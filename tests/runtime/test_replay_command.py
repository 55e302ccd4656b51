"""The output of a replay: it waits for slow readers and ends with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from deckwire.events.event import Event
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.limits import SINK_QUEUE
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import to_all
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.stdout import StdoutSink
from deckwire.runtime.replay import PatientFanout, ReaderGoneError
from tests.support.conversation import DECKY, Conversation, pcap

EVENT = Event("capture_stats", 0, "sensor", ())


def test_a_reader_that_starts_late_gets_every_line() -> None:
    """Offers three times the size of the queue; nobody reads before the queue must be full."""
    read, write = os.pipe()
    sink = StdoutSink(write)
    outputs = PatientFanout(to_all(JsonFormat(), [sink]))
    outputs.start()
    count = 3 * SINK_QUEUE
    content = bytearray()

    def drain() -> None:
        while chunk := os.read(read, 65_536):
            content.extend(chunk)

    reader = threading.Thread(target=drain, daemon=True)
    for number in range(count):
        if number == SINK_QUEUE // 2 + SINK_QUEUE // 4:
            reader.start()
        assert outputs.offer(EVENT)
    outputs.wait(0)
    outputs.close(5)
    os.close(write)
    reader.join(PATIENCE_SECONDS)
    os.close(read)
    assert content.count(b"\n") == count
    assert outputs.losses() == {}


@pytest.mark.parametrize("command", [["replay", "/dev/null"], ["run", "-i", "lo"]])
@pytest.mark.root
def test_a_missing_library_is_one_line_before_anything_starts(command: Sequence[str]) -> None:
    """It is imported later, so its absence must not come out with the first certificate."""
    program = (
        "import sys\nsys.modules['cryptography'] = None\nfrom deckwire.entry import main\nmain()"
    )
    argv = [sys.executable, "-c", program, *command, "--decky", "192.0.2.1=web"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    line = "deckwire: the Python package cryptography is missing; see deckwire doctor\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.root
def test_a_connection_that_is_open_at_the_end_of_the_capture_is_open(tmp_path: Path) -> None:
    path = tmp_path / "open.pcap"
    path.write_bytes(pcap(Conversation().open().send(b"hello").frames))
    argv = [sys.executable, "-m", "deckwire", "replay", "--format", "json"]
    done = subprocess.run(
        [*argv, "--decky", f"{DECKY}=web", str(path)], capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    closes = [one["fields"]["close"] for one in events if one["event"] == "tcp_flow_timing"]
    assert closes == ["open"]


class GatedSink(Sink):
    """Delivers only while its gate is open, and leaves half of its queue."""

    scheme = "gated"

    def __init__(self) -> None:
        super().__init__("gated")
        self.gate = threading.Event()

    def _deliver(self, lines: Sequence[bytes]) -> int:
        self.gate.wait(PATIENCE_SECONDS)
        queued = self.counters().queued
        if queued <= SINK_QUEUE // 2:
            self.gate.clear()
        return min(len(lines), max(0, queued - SINK_QUEUE // 2))

    def _release(self) -> None:
        return


class OpeningFanout(PatientFanout):
    """Its sink may deliver only while an offer waits."""

    def __init__(self, sink: GatedSink) -> None:
        super().__init__(to_all(JsonFormat(), [sink]))
        self._gated = sink

    def wait(self, queued: int) -> None:
        self._gated.gate.set()
        super().wait(queued)


def test_a_reader_that_reads_no_more_than_it_must_gets_every_line() -> None:
    """The queue is filled completely, and not further."""
    sink = GatedSink()
    outputs = OpeningFanout(sink)
    outputs.start()
    assert all(outputs.offer(EVENT) for _ in range(3 * SINK_QUEUE))
    sink.finish()
    sink.gate.set()
    outputs.close(0)
    assert sink.counters().dropped.keys() <= {"unsent"}


def test_a_reader_that_is_gone_ends_it() -> None:
    read, write = os.pipe()
    os.close(read)
    outputs = PatientFanout(to_all(JsonFormat(), [StdoutSink(write)]))
    outputs.start()
    with pytest.raises(ReaderGoneError):
        sum(outputs.offer(EVENT) for _ in range(10 * SINK_QUEUE))
    outputs.close(5)
    os.close(write)


def test_a_reader_that_fails_is_not_waited_for() -> None:
    with open("/dev/full", "wb") as full:
        outputs = PatientFanout(to_all(JsonFormat(), [StdoutSink(full.fileno())]))
        outputs.start()
        taken = sum(outputs.offer(EVENT) for _ in range(3 * SINK_QUEUE))
        outputs.wait(0)
        outputs.close(0.1)
    assert taken <= SINK_QUEUE
    assert sum(outputs.losses().values()) == 3 * SINK_QUEUE
