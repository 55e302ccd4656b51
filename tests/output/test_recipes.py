"""The relay of deploy/deckwire-rsyslog.conf loses nothing while the log server is away."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.unix import UnixSink
from tests.output.sinks.test_relp import IMRELP, line
from tests.support.rsyslog_server import MODULES, RSYSLOGD, Rsyslog, is_settled, wait_until
from tests.support.shared import CHECKOUT

RELAY = CHECKOUT / "deploy/deckwire-rsyslog.conf"
SOCKET, TARGET = "/run/deckwire-rsyslog/socket", 'Target="logs.example" Port="2514"'
LINES = 1_000


def relay_to(port: int, folder: Path) -> Rsyslog:
    """The relay as it is installed, but for its socket and its target."""
    text = RELAY.read_text().replace("{", "{{").replace("}", "}}")
    text = text.replace(SOCKET, "{folder}/relay/socket")
    text = text.replace(TARGET, f'Target="127.0.0.1" Port="{port}"')
    # The server's own configuration loads the input already.
    text = text.replace('module(load="imuxsock")\n', "")
    return Rsyslog(folder, text)


def test_the_relay_keeps_lines_while_the_log_server_is_away(short_path: Path) -> None:
    if RSYSLOGD is None or not (MODULES / "omrelp.so").exists():
        pytest.skip("rsyslog-relp is not installed; `make setup` installs it")
    for name in ("server", "host"):
        (short_path / name).mkdir()
    server = Rsyslog(short_path / "server", IMRELP)
    relay = relay_to(server.more_port, short_path / "host")
    sent = [line(number) for number in range(LINES)]
    try:
        server.start()
        relay.start()
        sink = UnixSink(str(short_path / "host/relay/socket"))
        sink.start()
        sink.offer_all(sent[:100])
        wait_until(lambda: len(server.raw()) >= 100, "the first lines arrive")
        server.stop(signal.SIGKILL)
        sink.offer_all(sent[100:])
        wait_until(lambda: is_settled(sink), "the relay has read the others")
        server.start()
        wait_until(lambda: set(server.raw()) >= set(sent), "all lines arrive")
        sink.close(PATIENCE_SECONDS)
    finally:
        relay.stop()
        server.stop()
    # A line around the kill may come twice.
    assert list(dict.fromkeys(server.raw())) == sent
