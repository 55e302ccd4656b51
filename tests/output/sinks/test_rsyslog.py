"""The sinks against a real rsyslog: its file must hold the lines sent and nothing else."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deckwire.events.event import WARNING, Event
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import Fanout, Format, to_all
from deckwire.output.sinks.spec import parse_output
from deckwire.output.syslog import SyslogFormat
from tests.support.rsyslog_server import Rsyslog, is_settled, wait_until

TIME_NS = 1_795_489_286_453_503_999
HOSTILE = [
    "",
    "www.example.com",
    "münchen.example 日本語",
    'quotes " and \\ and ] and ="',
    'x"]\n<134>1 2026-01-01T00:00:00Z evil sniffer - forged [a@1 b="c"]',
    "\r\n\0\x1b[2J\x7f\x85\u2028\u202e\ufeff",
    "\udc80\udcff\udcfe",
    "%s %n ${x} #012 #033",
    "long " + "]" * 5000,
]
SPECS = ["unix:{folder}/datagram", "unix:{folder}/stream", "udp:127.0.0.1:{port}",
         "tcp:127.0.0.1:{port}", "tcp:localhost:{port}"]  # fmt: skip


def event(number: int, sni: str) -> Event:
    return Event(
        "tls_client_hello",
        TIME_NS + number * 1000,
        f"decky-{number % 7:02d}",
        (("src_ip", "192.0.2.1"), ("src_port", number), ("sni", sni), ("alpn", ("h2", "x]y"))),
        severity=WARNING if number % 5 == 0 else 6,
    )


def events(count: int, start: int = 0) -> list[Event]:
    return [event(n, HOSTILE[n % len(HOSTILE)]) for n in range(start, start + count)]


def opened(rsyslog: Rsyslog, spec: str, form: Format) -> Fanout:
    fanout = Fanout(
        to_all(form, [parse_output(spec.format(folder=rsyslog.folder, port=rsyslog.port))()])
    )
    fanout.start()
    return fanout


@pytest.mark.parametrize("spec", SPECS)
def test_every_line_arrives_as_it_was_sent(rsyslog: Rsyslog, spec: str) -> None:
    form = SyslogFormat()
    sent = events(200)
    fanout = opened(rsyslog, spec, form)
    # In portions that fit into a socket's receive buffer: UDP would lose the rest.
    for end in range(20, 220, 20):
        assert all(fanout.offer(one) for one in sent[end - 20 : end])
        wait_until(lambda end=end: len(rsyslog.raw()) >= end, "rsyslog wrote all lines")
    fanout.close(PATIENCE_SECONDS)
    ((_, counters),) = fanout.counters()
    assert (counters.written, counters.queued, counters.dropped) == (200, 0, {})
    assert rsyslog.raw() == [form.line(one) for one in sent]


@pytest.mark.parametrize("sd_id", ["decnet@55555", "relay@55555"])
@pytest.mark.parametrize("spec", [SPECS[0], SPECS[3]])
def test_rsyslog_parses_every_line_as_rfc_5424(rsyslog: Rsyslog, spec: str, sd_id: str) -> None:
    form = SyslogFormat(sd_id=sd_id)
    sent = events(50)
    fanout = opened(rsyslog, spec, form)
    assert all(fanout.offer(one) for one in sent)
    fanout.close(PATIENCE_SECONDS)
    wait_until(lambda: len(rsyslog.parsed()) >= len(sent), "rsyslog wrote all lines")
    line = re.compile(rb"<(\d+)>1 (\S+) (\S+) (\S+) - (\S+) (\[.*\])")
    expected = []
    for one in sent:
        fields = line.fullmatch(form.line(one))
        assert fields
        expected.append(b"|".join(fields.groups()))
    assert rsyslog.parsed() == expected


def test_json_lines_arrive_too(rsyslog: Rsyslog) -> None:
    form = JsonFormat()
    sent = events(20)
    fanout = opened(rsyslog, SPECS[3], form)
    assert all(fanout.offer(one) for one in sent)
    fanout.close(PATIENCE_SECONDS)
    wait_until(lambda: len(rsyslog.raw()) >= len(sent), "rsyslog wrote all lines")
    assert rsyslog.raw() == [form.line(one) for one in sent]


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[1], SPECS[3]])
def test_lines_wait_for_a_restarted_rsyslog(rsyslog: Rsyslog, spec: str) -> None:
    form = SyslogFormat()
    sent = events(90)
    fanout = opened(rsyslog, spec, form)
    assert all(fanout.offer(one) for one in sent[:30])
    wait_until(lambda: len(rsyslog.raw()) >= 30, "rsyslog wrote the first lines")
    wait_until(lambda: is_settled(fanout._sinks[0]), "the sink is sure of them")
    rsyslog.stop()
    assert all(fanout.offer(one) for one in sent[30:60])
    wait_until(lambda: fanout.counters()[0][1].errors, "the sink noticed")
    rsyslog.start()
    assert all(fanout.offer(one) for one in sent[60:])
    wait_until(lambda: len(rsyslog.raw()) >= len(sent), "rsyslog wrote all lines")
    fanout.close(PATIENCE_SECONDS)
    assert rsyslog.raw() == [form.line(one) for one in sent]
    assert fanout.losses() == {}


def test_lines_wait_for_an_rsyslog_that_starts_later(rsyslog: Rsyslog) -> None:
    rsyslog.stop()
    form = SyslogFormat()
    sent = events(60)
    fanouts = [opened(rsyslog, spec, form) for spec in (SPECS[0], SPECS[3])]
    for fanout in fanouts:
        assert all(fanout.offer(one) for one in sent)
        wait_until(lambda one=fanout: one.counters()[0][1].errors, "the sink tried")
    rsyslog.start()
    wait_until(lambda: len(rsyslog.raw()) >= 2 * len(sent), "rsyslog wrote all lines")
    assert sorted(rsyslog.raw()) == sorted(2 * [form.line(one) for one in sent])
    for fanout in fanouts:
        fanout.close(PATIENCE_SECONDS)


def test_udp_counts_what_a_stopped_rsyslog_refused(rsyslog: Rsyslog) -> None:
    form = SyslogFormat()
    sent = events(40)
    fanout = opened(rsyslog, SPECS[2], form)
    assert all(fanout.offer(one) for one in sent[:10])
    wait_until(lambda: len(rsyslog.raw()) >= 10, "rsyslog wrote the first lines")
    rsyslog.stop()
    assert all(fanout.offer(one) for one in sent[10:])
    wait_until(lambda: fanout.losses().get("udp_refused"), "a refusal was counted")
    rsyslog.start()
    wait_until(lambda: not fanout.counters()[0][1].queued, "the queue is empty")
    fanout.close(PATIENCE_SECONDS)
    ((_, counters),) = fanout.counters()
    wait_until(lambda: len(rsyslog.raw()) >= counters.written, "rsyslog wrote the rest")
    assert len(rsyslog.raw()) == counters.written == 40 - counters.dropped["refused"]


@contextmanager
def steady_lines(fanout: Fanout, sent: list[Event]) -> Iterator[None]:
    """About 2,000 lines a second while the body runs, fewer than the queue holds."""
    done = threading.Event()

    def feed() -> None:
        while not done.is_set() and len(sent) < 8_000:
            for one in events(20, len(sent)):
                assert fanout.offer(one)
                sent.append(one)
            time.sleep(0.01)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        done.set()
        feeder.join()


@pytest.mark.parametrize(
    ("spec", "how"),
    [
        (SPECS[0], signal.SIGTERM),
        (SPECS[1], signal.SIGTERM),
        (SPECS[3], signal.SIGTERM),
        (SPECS[3], signal.SIGKILL),
    ],
)
def test_no_restart_loses_a_line_without_counting_it(
    rsyslog: Rsyslog, spec: str, how: signal.Signals
) -> None:
    """Every line is received, or in doubt, or both; none is received twice."""
    form = SyslogFormat()
    sent: list[Event] = []
    fanout = opened(rsyslog, spec, form)
    with steady_lines(fanout, sent):
        for restart in range(3):
            before = len(rsyslog.raw())
            wait_until(lambda n=before: len(rsyslog.raw()) > n + 300, "lines arrive")
            rsyslog.stop(how)
            wait_until(
                lambda n=restart: fanout.counters()[0][1].errors.get("connect_error", 0) > n,
                "the sink noticed",
            )
            rsyslog.start()
    wait_until(lambda: not fanout.counters()[0][1].queued, "the queue is empty")
    fanout.close(PATIENCE_SECONDS)
    wait_until(lambda: rsyslog.raw()[-1:] == [form.line(sent[-1])], "the last line arrived")
    lines = [form.line(one) for one in sent]
    number_of = {line: number for number, line in enumerate(lines)}
    # A frame that a connection's end cut short is no line.
    received = [number_of[line] for line in rsyslog.raw() if line in number_of]
    assert received == sorted(set(received))
    ((_, counters),) = fanout.counters()
    assert set(counters.dropped) <= {"in_doubt"}
    assert counters.offered == len(lines) == counters.written + counters.dropped.get("in_doubt", 0)
    assert len(lines) - len(received) <= counters.dropped.get("in_doubt", 0)
    print(
        f"{spec} {how.name}: {len(lines)} offered, {len(lines) - len(received)} not received, "
        f"{counters.dropped} counted"
    )
