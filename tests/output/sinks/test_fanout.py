"""Every event to every output, formatted once; what each lost is counted."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.event import Event
from deckwire.output.sinks.fanout import Fanout, to_all
from deckwire.output.sinks.file import FileSink
from deckwire.output.sinks.udp import UdpSink
from deckwire.output.sinks.unix import UnixSink
from deckwire.output.syslog import SyslogFormat
from tests.support.rsyslog_server import wait_until


class CountingFormat(SyslogFormat):
    """Counts how often it is asked."""

    made = 0

    def line(self, event: Event) -> bytes:
        self.made += 1
        return super().line(event)


def event(number: int) -> Event:
    return Event("capture_stats", number, "sensor", (("n", number),))


def test_every_sink_gets_every_line_formatted_once(tmp_path: Path) -> None:
    form = CountingFormat()
    paths = [tmp_path / "a", tmp_path / "b"]
    fanout = Fanout(to_all(form, [FileSink(str(path)) for path in paths]))
    fanout.start()
    assert all(fanout.offer(event(number)) for number in range(100))
    assert form.made == 100
    fanout.close(20)
    expected = b"".join(form.line(event(number)) + b"\n" for number in range(100))
    assert [path.read_bytes() for path in paths] == [expected, expected]
    assert fanout.losses() == {}


def test_an_event_is_taken_if_one_sink_takes_it(tmp_path: Path, short_path: Path) -> None:
    small = FileSink(str(tmp_path / "small"), capacity=2)
    large = UnixSink(str(short_path / "absent"), capacity=5)
    fanout = Fanout(to_all(SyslogFormat(), [small, large]))
    assert [fanout.offer(event(number)) for number in range(7)] == [True] * 5 + [False] * 2
    assert fanout.losses() == {"file_queue_full": 5, "unix_queue_full": 2}
    fanout.start()
    fanout.close(0.2)
    assert fanout.losses() == {"file_queue_full": 5, "unix_queue_full": 2, "unix_unsent": 5}
    for _, counters in fanout.counters():
        assert counters.offered == 7 == counters.written + sum(counters.dropped.values())


def test_losses_of_sinks_of_one_kind_are_added_up(tmp_path: Path) -> None:
    fanout = Fanout(
        to_all(SyslogFormat(), [FileSink(str(tmp_path / name), capacity=1) for name in ("a", "b")])
    )
    fanout.offer(event(0))
    fanout.offer(event(1))
    assert fanout.losses() == {"file_queue_full": 2}
    fanout.close(0)


def test_reopen_reaches_every_sink(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    fanout = Fanout(to_all(SyslogFormat(), [FileSink(str(path)) for path in paths]))
    fanout.start()
    for path in paths:
        path.unlink()
    fanout.reopen()
    wait_until(lambda: all(path.exists() for path in paths), "all files are there again")
    fanout.close(20)


def test_a_dead_receiver_does_not_keep_a_live_one_waiting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    absent, deaf = UnixSink(str(tmp_path / "absent")), UdpSink("127.0.0.1", port)
    fanout = Fanout(to_all(SyslogFormat(), [absent, deaf, FileSink(str(tmp_path / "live"))]))
    fanout.start()
    for number in range(50):
        assert fanout.offer(event(number))
    wait_until(lambda: fanout.counters()[2][1].written == 50, "the file has all lines")
    fanout.close(0)


def test_what_is_held_is_written_in_order_with_the_flush(tmp_path: Path) -> None:
    form = CountingFormat()
    fanout = Fanout(to_all(form, [FileSink(str(tmp_path / "a"), capacity=9)]))
    fanout.offer(event(0))
    fanout.hold()
    assert fanout.offer(event(1))
    assert fanout.offer(event(2))
    assert form.made == 1
    fanout.flush()
    assert form.made == 3
    fanout.offer(event(3))
    fanout.hold()
    fanout.offer(event(4))
    fanout.start()
    fanout.close(20)
    expected = b"".join(SyslogFormat().line(event(number)) + b"\n" for number in range(5))
    assert (tmp_path / "a").read_bytes() == expected


@given(st.lists(st.sampled_from(["event", "hold", "flush"]), max_size=30), st.data())
def test_held_or_not_the_same_lines_are_taken_and_lost(
    steps: list[str], data: st.DataObject
) -> None:
    """No sink is started: what is taken stays."""
    capacities = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    plain, holding = (
        Fanout(
            to_all(
                SyslogFormat(), [UnixSink(f"/absent/{size}", capacity=size) for size in capacities]
            )
        )
        for _ in range(2)
    )
    for number, step in enumerate(steps):
        if step == "event":
            assert plain.offer(event(number)) == holding.offer(event(number))
        elif step == "hold":
            holding.hold()
        else:
            holding.flush()
    holding.flush()
    assert plain.losses() == holding.losses()
    assert plain.counters() == holding.counters()
    for fanout in (plain, holding):
        fanout.close(0)


def test_an_event_that_cannot_be_written_is_the_only_one_lost(tmp_path: Path) -> None:
    class Failing(SyslogFormat):
        def line(self, event: Event) -> bytes:
            if event.time_ns == 1:
                raise ValueError("odd")
            return super().line(event)

    fanout = Fanout(to_all(Failing(), [FileSink(str(tmp_path / "a"))]))
    fanout.hold()
    for number in range(3):
        fanout.offer(event(number))
    with pytest.raises(ValueError, match="odd"):
        fanout.flush()
    fanout.flush()
    fanout.start()
    fanout.close(20)
    lines = (tmp_path / "a").read_bytes().splitlines()
    assert lines == [SyslogFormat().line(event(number)) for number in (0, 2)]
