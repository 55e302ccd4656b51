"""Every event to every output, formatted once; what each lost is counted."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.event import Event
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.filter import EventFilter
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import Fanout, Output, to_all
from deckwire.output.sinks.file import FileSink
from deckwire.output.sinks.udp import UdpSink
from deckwire.output.sinks.unix import UnixSink
from deckwire.output.syslog import SyslogFormat
from tests.support.rsyslog_server import wait_until


class CountingFormat:
    """Counts how often it is asked."""

    def __init__(self, form: SyslogFormat | None = None) -> None:
        self.made = 0
        self._form = form or SyslogFormat()

    def line(self, event: Event) -> bytes:
        self.made += 1
        return self._form.line(event)


class FailingFormat:
    """Cannot write the event of the time 1."""

    def __init__(self) -> None:
        self._form = SyslogFormat()

    def line(self, event: Event) -> bytes:
        if event.time_ns == 1:
            raise ValueError("odd")
        return self._form.line(event)


def event(number: int) -> Event:
    return Event("capture_stats", number, "sensor", (("n", number),))


def test_every_sink_gets_every_line_formatted_once(tmp_path: Path) -> None:
    form = CountingFormat()
    paths = [tmp_path / "a", tmp_path / "b"]
    fanout = Fanout(to_all(form, [FileSink(str(path)) for path in paths]))
    fanout.start()
    assert all(fanout.offer(event(number)) for number in range(100))
    assert form.made == 100
    fanout.close(PATIENCE_SECONDS)
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
    fanout.close(PATIENCE_SECONDS)


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
    fanout.close(PATIENCE_SECONDS)
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
    fanout = Fanout(to_all(FailingFormat(), [FileSink(str(tmp_path / "a"))]))
    fanout.hold()
    for number in range(3):
        fanout.offer(event(number))
    with pytest.raises(ValueError, match="odd"):
        fanout.flush()
    fanout.flush()
    fanout.start()
    fanout.close(PATIENCE_SECONDS)
    lines = (tmp_path / "a").read_bytes().splitlines()
    assert lines == [SyslogFormat().line(event(number)) for number in (0, 2)]


def named(name: str, number: int = 0, severity: int = 6) -> Event:
    return Event(name, number, "sensor", (("n", number),), severity)


def test_outputs_with_one_format_share_the_line_and_others_do_not(tmp_path: Path) -> None:
    shared, own = CountingFormat(), CountingFormat(SyslogFormat(procid="7"))
    sinks = [FileSink(str(tmp_path / name)) for name in "abc"]
    fanout = Fanout(
        [
            Output(sinks[0], shared),
            Output(sinks[1], own),
            Output(sinks[2], shared, EventFilter(("tls_*",))),
        ]
    )
    fanout.start()
    for hold in (False, True):
        if hold:
            fanout.hold()
        for name in ("tls_session", "capture_stats"):
            assert fanout.offer(named(name))
    fanout.close(PATIENCE_SECONDS)
    assert (shared.made, own.made) == (4, 4)
    assert [len((tmp_path / name).read_bytes().splitlines()) for name in "abc"] == [4, 4, 2]
    assert fanout.sums()["file_filtered"] == 2
    assert fanout.sums()["file_offered"] == 10


def test_an_event_that_no_output_takes_is_not_formatted_and_no_loss(tmp_path: Path) -> None:
    form = CountingFormat()
    outputs = [
        Output(FileSink(str(tmp_path / "a")), form, EventFilter(("tls_*",))),
        Output(UnixSink("/absent/s"), form, EventFilter(min_severity=4)),
    ]
    fanout = Fanout(outputs)
    assert fanout.filters
    assert not fanout.wants(named("capture_stats"))
    assert [output.filtered for output in outputs] == [1, 1]
    assert fanout.wants(named("tls_session"))
    assert fanout.wants(named("capture_loss", severity=4))
    assert [output.filtered for output in outputs] == [1, 1]
    assert fanout.offer(named("capture_stats"))
    assert form.made == 0
    assert fanout.losses() == {}
    assert fanout.sums()["file_filtered"] == fanout.sums()["unix_filtered"] == 2
    fanout.close(0)


def test_an_output_without_a_filter_takes_everything(tmp_path: Path) -> None:
    form = SyslogFormat()
    fanout = Fanout(
        [
            Output(FileSink(str(tmp_path / "a")), form, EventFilter(("tls_*",))),
            Output(FileSink(str(tmp_path / "b")), form, EventFilter()),
        ]
    )
    assert not fanout.filters
    fanout.close(0)


@given(st.data())
def test_filtered_outputs_get_their_lines_in_order_held_or_not(data: st.DataObject) -> None:
    """No sink is started: what is taken stays. No event is reported as taken that is lost."""
    forms = [SyslogFormat(), JsonFormat()]
    filters = [None, EventFilter(("tls_*",)), EventFilter(("capture_*", "tls_session"))]
    drawn = data.draw(
        st.lists(
            st.tuples(st.integers(1, 8), st.sampled_from(forms), st.sampled_from(filters)),
            min_size=1,
            max_size=4,
        )
    )
    sinks = [
        [UnixSink(f"/absent/{n}", capacity=size) for n, (size, _, _) in enumerate(drawn)]
        for _ in range(2)
    ]
    plain, holding = (
        Fanout([Output(sink, form, f) for sink, (_, form, f) in zip(some, drawn, strict=True)])
        for some in sinks
    )
    steps = data.draw(
        st.lists(
            st.sampled_from(["tls_session", "capture_stats", "tls_certificate", "hold", "flush"]),
            max_size=30,
        )
    )
    for number, step in enumerate(steps):
        if step == "hold":
            holding.hold()
        elif step == "flush":
            holding.flush()
        else:
            event_ = named(step, number)
            assert plain.offer(event_) == holding.offer(event_)
    holding.flush()
    for left, right, (size, form, filter_) in zip(*sinks, drawn, strict=True):
        passing = [
            form.line(named(step, number))
            for number, step in enumerate(steps)
            if step not in ("hold", "flush") and (filter_ is None or filter_.passes(named(step)))
        ]
        assert list(left._lines) == list(right._lines) == passing[:size]
        assert left.counters() == right.counters()
        assert left.counters().offered == len(passing)
    assert plain.sums() == holding.sums()
    for fanout in (plain, holding):
        fanout.close(0)


@pytest.mark.parametrize("hold", [False, True])
def test_a_format_that_fails_costs_no_other_format_its_line(tmp_path: Path, hold: bool) -> None:
    fanout = Fanout(
        [
            Output(FileSink(str(tmp_path / "a")), FailingFormat()),
            Output(FileSink(str(tmp_path / "b")), SyslogFormat()),
        ]
    )
    if hold:
        fanout.hold()
    failures = 0
    for number in range(3):
        try:
            fanout.offer(event(number))
        except ValueError:
            failures += 1
    if hold:
        with pytest.raises(ValueError, match="odd"):
            fanout.flush()
        failures += 1
        fanout.flush()
    assert failures == 1
    fanout.start()
    fanout.close(PATIENCE_SECONDS)
    good = SyslogFormat()
    for name, numbers in (("a", (0, 2)), ("b", (0, 1, 2))):
        lines = (tmp_path / name).read_bytes().splitlines()
        assert lines == [good.line(event(number)) for number in numbers]


# --- other outputs while it runs ---


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_sink_that_stays_keeps_its_lines_and_its_counts(tmp_path: Path, short_path: Path) -> None:
    path = short_path / "late"
    sink, file = UnixSink(str(path)), FileSink(str(tmp_path / "file"))
    none = EventFilter(("tls_*",))
    fanout = Fanout([Output(sink, JsonFormat()), Output(file, JsonFormat(), none)])
    fanout.start()
    assert fanout.offer(event(1))
    fanout.replace([Output(sink, SyslogFormat()), Output(file, SyslogFormat())], 20)
    assert fanout.settled
    assert fanout.offer(event(2))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(PATIENCE_SECONDS)
        first, second = receiver.recv(9_000), receiver.recv(9_000)
    assert first.startswith(b"{")
    assert second.startswith(b"<")
    wait_until(lambda: fanout.sums()["file_written"] == 1, "the file has its line")
    assert fanout.sums()["file_filtered"] == 1
    fanout.close(PATIENCE_SECONDS)


def test_a_sink_that_is_removed_writes_its_lines_and_its_counts_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    form = SyslogFormat()
    fanout = Fanout(to_all(form, [FileSink(str(old))]))
    fanout.start()
    for number in range(5_000):
        assert fanout.offer(event(number))
    fanout.replace(to_all(form, [FileSink(str(new))]), 20)
    assert fanout.offer(event(5_000))
    wait_until(lambda: fanout.settled, "the old output has ended")
    assert len(lines_of(old)) == 5_000
    fanout.close(PATIENCE_SECONDS)
    assert len(lines_of(new)) == 1
    sums = fanout.sums()
    assert (sums["file_offered"], sums["file_written"], sums["file_queued"]) == (5_001, 5_001, 0)
    assert fanout.losses() == {}


def test_a_removed_sink_without_receiver_ends_and_its_lines_are_counted(tmp_path: Path) -> None:
    fanout = Fanout(to_all(SyslogFormat(), [UnixSink(str(tmp_path / "absent"))]))
    fanout.start()
    fanout.offer(event(0))
    fanout.replace([], 0.1)
    wait_until(lambda: fanout.settled, "the old output has ended")
    assert fanout.losses() == {"unix_unsent": 1}
    fanout.close(PATIENCE_SECONDS)
    assert fanout.losses() == {"unix_unsent": 1}
    assert fanout.sums()["unix_offered"] == 1


@pytest.mark.parametrize("how", ["goes on", "ends at once"])
def test_a_new_sink_of_the_same_place_writes_after_the_old_one(tmp_path: Path, how: str) -> None:
    path = tmp_path / "file"
    place = frozenset({str(path)})
    form = SyslogFormat()
    fanout = Fanout([Output(FileSink(str(path)), form, places=place)])
    for number in range(4_000):
        assert fanout.offer(event(number))
    fanout.start()
    fanout.replace([Output(FileSink(str(path)), form, places=place)], 20)
    for number in range(4_000, 8_000):
        assert fanout.offer(event(number))
    if how == "goes on":
        wait_until(lambda: fanout.settled, "the old output has ended")
    fanout.close(PATIENCE_SECONDS)
    assert lines_of(path) == [form.line(event(number)).decode() for number in range(8_000)]
    assert fanout.losses() == {}
