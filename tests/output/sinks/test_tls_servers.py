"""TLS outputs to real log servers: lines arrive, and a server that is not believed gets none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.tls import TlsSink
from deckwire.output.sinks.tls_client import TlsClient, TlsSettings
from tests.output.sinks.test_tls import NAME, Authority, Files
from tests.support.rsyslog_server import MODULES, RSYSLOGD, Rsyslog, wait_until
from tests.support.syslog_ng_server import SYSLOG_NG, SyslogNg

LINES = [
    b'<134>1 2026-11-24T03:01:26.453503+00:00 decky-01 sniffer - test [decnet@55555 n="%d"]'
    % number
    for number in range(200)
]
IMTCP = """
input(type="imtcp" Address="127.0.0.1" Port="{{more_port}}"
  StreamDriver.Name="{driver}" StreamDriver.Mode="1" StreamDriver.AuthMode="anon"
  StreamDriver.CAFile="{{folder}}/server.crt" StreamDriver.CertFile="{{folder}}/server.crt"
  StreamDriver.KeyFile="{{folder}}/server.key")
"""


class LogServer(Protocol):
    """A server that reads server.crt and server.key in its folder when it starts."""

    folder: Path

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def raw(self) -> list[bytes]: ...


class RsyslogTls(Rsyslog):
    """rsyslog with one of its TLS drivers."""

    def __init__(self, folder: Path, driver: str) -> None:
        super().__init__(folder, IMTCP.format(driver=driver))
        self.tls_port = self.more_port


class SyslogNgTls(SyslogNg):
    """syslog-ng."""

    @property
    def tls_port(self) -> int:
        return self.port


def rsyslog_tls(folder: Path, driver: str) -> RsyslogTls:
    if RSYSLOGD is None or not (MODULES / f"lmnsd_{driver}.so").exists():
        pytest.skip(f"rsyslog's driver {driver} is not installed; `make setup` installs it")
    return RsyslogTls(folder, driver)


@pytest.fixture
def authority(short_path: Path) -> Authority:
    return Authority(short_path, "ca")


@pytest.fixture(params=["gtls", "ossl", "syslog-ng"])
def server(request: pytest.FixtureRequest, short_path: Path) -> Iterator[RsyslogTls | SyslogNgTls]:
    made: RsyslogTls | SyslogNgTls
    if request.param != "syslog-ng":
        made = rsyslog_tls(short_path, request.param)
    elif SYSLOG_NG is None:
        pytest.skip("syslog-ng is missing; `make test` unpacks it")
    else:
        made = SyslogNgTls(short_path)
    try:
        yield made
    finally:
        made.stop()


def give(server: LogServer, files: Files) -> None:
    """What the server has when it is started."""
    shutil.copy(files.certificate, server.folder / "server.crt")
    shutil.copy(files.key, server.folder / "server.key")


@pytest.mark.parametrize(
    ("name", "days", "signer", "reason"),
    [
        (NAME, 1, "other", "unable to get local issuer certificate"),
        (NAME, -1, "ca", "certificate has expired"),
        ("evil.example.test", 1, "ca", "Hostname mismatch"),
    ],
    ids=["authority", "expired", "name"],
)
def test_a_wrong_certificate_is_one_line_and_the_right_one_ends_the_trouble(
    server: RsyslogTls | SyslogNgTls,
    authority: Authority,
    short_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    days: int,
    signer: str,
    reason: str,
) -> None:
    signing = authority if signer == "ca" else Authority(short_path, signer)
    give(server, signing.certify(name, days=days))
    server.start()
    settings = TlsSettings(ca=authority.path, name=NAME)
    sink = TlsSink("127.0.0.1", server.tls_port, TlsClient(settings, NAME))
    sink.start()
    assert sink.offer_all(LINES) == len(LINES)
    wait_until(lambda: sink.counters().errors.get("connect_error", 0) >= 3, "it has tried again")
    assert sink.counters().queued == len(LINES)
    server.stop()
    give(server, authority.certify(NAME))
    server.start()
    wait_until(lambda: len(server.raw()) >= len(LINES), "all lines have arrived")
    sink.close(PATIENCE_SECONDS)
    assert server.raw() == LINES
    assert (sink.counters().written, sink.counters().dropped) == (len(LINES), {})
    said = [line for line in capfd.readouterr().err.splitlines() if sink.name in line]
    refused = [line for line in said if "its certificate is refused" in line]
    assert len(refused) == 1
    assert reason in refused[0]
    assert refused[0].endswith("its lines wait")
    assert said[-1].endswith(f"output {sink.name}: works again")
