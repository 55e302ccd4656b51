"""RELP to a real rsyslog: no committed line is lost when it is killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.relp import RelpSink
from deckwire.output.sinks.spooled import SpoolFolder
from deckwire.output.sinks.tls_client import TlsClient, TlsSettings
from tests.output.sinks.test_tls import NAME, Authority
from tests.support.rsyslog_server import MODULES, RSYSLOGD, Rsyslog, wait_until

IMRELP = """
module(load="imrelp")
input(type="imrelp" Address="127.0.0.1" Port="{more_port}")
"""
IMRELP_TLS = """
module(load="imrelp" tls.tlslib="openssl")
input(type="imrelp" Address="127.0.0.1" Port="{more_port}" TLS="on"
  TLS.CACert="{folder}/ca.pem" TLS.MyCert="{folder}/logs.example.test.1.crt"
  TLS.MyPrivKey="{folder}/logs.example.test.key" TLS.AuthMode="name"
  TLS.PermittedPeer=["sensor.example.test"])
"""


def line(number: int) -> bytes:
    return b"<134>1 2026-11-24T03:01:26.453503+00:00 decky-01 sniffer - test - %06d" % number


@pytest.fixture(params=[IMRELP, IMRELP_TLS], ids=["plain", "tls"])
def server(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Rsyslog]:
    if RSYSLOGD is None or not (MODULES / "imrelp.so").exists():
        pytest.skip("rsyslog-relp is not installed; `make setup` installs it")
    authority = Authority(short_path, "ca")
    authority.certify(NAME)
    authority.certify("sensor.example.test")
    made = Rsyslog(short_path, request.param)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def relp(server: Rsyslog, folder: Path) -> RelpSink:
    tls = None
    if "TLS.CACert" in (server.folder / "rsyslog.conf").read_text():
        settings = TlsSettings(
            ca=str(server.folder / "ca.pem"),
            certificate=str(server.folder / "sensor.example.test.1.crt"),
            key=str(server.folder / "sensor.example.test.key"),
            name=NAME,
        )
        tls = TlsClient(settings, NAME)
    made = RelpSink("127.0.0.1", server.more_port, SpoolFolder(str(folder)), tls)
    made.start()
    return made


def conserved(sink: RelpSink) -> bool:
    counters = sink.counters()
    lost = sum(counters.dropped.values())
    return counters.offered == counters.written + counters.queued + lost


def test_every_line_arrives_once_in_order(server: Rsyslog, tmp_path: Path) -> None:
    sink = relp(server, tmp_path)
    sent = [line(number) for number in range(3_000)]
    assert sink.offer_all(sent) == 3_000
    wait_until(lambda: len(server.raw()) >= 3_000, "rsyslog wrote all lines")
    sink.close(PATIENCE_SECONDS)
    assert server.raw() == sent
    assert sink.more_sums() == {
        "spooled": 0,
        "acknowledged": 3_000,
        "sent_again": 0,
        "failed_receiver": 0,
    }
    assert (sink.counters().written, sink.counters().dropped) == (3_000, {})


def test_no_committed_line_is_lost_when_the_receiver_is_killed(
    server: Rsyslog, tmp_path: Path
) -> None:
    sink = relp(server, tmp_path)
    sent = [line(number) for number in range(5_000)]
    for start in range(0, 5_000, 1_000):
        assert sink.offer_all(sent[start : start + 1_000]) == 1_000
        wait_until(lambda seen=start + 50: len(server.raw()) >= seen, "rsyslog wrote some")
        failed = sink.more_sums()["failed_receiver"]
        server.stop(signal.SIGKILL)
        # A sink that nothing waits in for an answer need not notice.
        wait_until(
            lambda before=failed: (
                sink.more_sums()["failed_receiver"] > before or not sink.more_sums()["spooled"]
            ),
            "the break is noticed",
        )
        server.start()
    wait_until(lambda: not sink.more_sums()["spooled"], "all are acknowledged")
    sink.close(PATIENCE_SECONDS)
    received = server.raw()
    assert sorted(set(received)) == sent
    # The same line may arrive twice around a kill. Apart from that, the order is kept.
    assert list(dict.fromkeys(received)) == sent
    assert len(received) - len(sent) <= sink.more_sums()["sent_again"]
    assert conserved(sink)


def test_a_damaged_spool_does_not_stop_the_lines_after_it(
    server: Rsyslog, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = relp(server, tmp_path)
    assert sink.offer_all([line(number) for number in range(100)]) == 100
    wait_until(lambda: len(server.raw()) >= 100, "the first lines have arrived")
    wait_until(lambda: not sink.more_sums()["spooled"], "they are acknowledged")
    (path,) = tmp_path.glob("*.sqlite")
    # As a disk that loses its content does to an open database.
    with sink._spool._lock:
        sink._spool._close()
        path.write_bytes(b"no database" * 1_000)
    later = [line(number) for number in range(100, 150)]
    assert sink.offer_all(later) == 50
    wait_until(lambda: set(later) <= set(server.raw()), "the later lines have arrived")
    sink.close(PATIENCE_SECONDS)
    assert "the spool was damaged; moved to" in capfd.readouterr().err
    assert conserved(sink)


def test_lines_of_an_earlier_run_are_delivered_first(server: Rsyslog, tmp_path: Path) -> None:
    server.stop()
    sent = [line(number) for number in range(200)]
    first = relp(server, tmp_path)
    assert first.offer_all(sent[:100]) == 100
    wait_until(lambda: first.counters().written == 100, "all are committed")
    first.close(PATIENCE_SECONDS)
    assert (first.more_sums()["spooled"], first.counters().dropped) == (100, {})
    server.start()
    second = relp(server, tmp_path)
    wait_until(lambda: len(server.raw()) >= 100, "the old lines have arrived")
    second.offer_all(sent[100:])
    wait_until(lambda: len(server.raw()) >= 200, "the new lines have arrived")
    second.close(PATIENCE_SECONDS)
    assert server.raw() == sent
    assert (second.counters().offered, second.counters().written) == (200, 200)
    assert conserved(second)
