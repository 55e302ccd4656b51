"""Every committed line arrives, whoever is killed: the receiver five times, the sender twice.

DECKWIRE_DELIVERY_LINES is the number of lines; `make delivery-test` sends 100,000 by each output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.output.sinks.test_relp import IMRELP
from tests.output.sinks.test_tls import NAME, Authority
from tests.support.delivering import line, number_of
from tests.support.rsyslog_server import MODULES, RSYSLOGD, Rsyslog, free_port, wait_until

LINES = int(os.environ.get("DECKWIRE_DELIVERY_LINES", "6000"))
SENDER_KILLS = 2
RECEIVER_KILLS = 5


class Receiver(ABC):
    """A receiver that can be killed and started."""

    described: str

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def kill(self) -> None: ...

    @abstractmethod
    def received(self) -> list[bytes]: ...


class RelpReceiver(Receiver):
    """rsyslog, whose queue is Direct: it acknowledges a line after it was written."""

    def __init__(self, folder: Path) -> None:
        self._rsyslog = Rsyslog(folder, IMRELP)
        self.described = json.dumps({"kind": "relp", "port": self._rsyslog.more_port})

    def start(self) -> None:
        self._rsyslog.start()

    def kill(self) -> None:
        self._rsyslog.stop(signal.SIGKILL)

    def received(self) -> list[bytes]:
        return self._rsyslog.raw()


class HttpsReceiver(Receiver):
    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._file = folder / "received"
        authority = Authority(folder, "ca")
        self._files = authority.certify(NAME)
        self._process: subprocess.Popen[bytes] | None = None
        settings = {"kind": "https", "port": self._port, "ca": authority.path, "name": NAME}
        self.described = json.dumps(settings)

    def start(self) -> None:
        module = "tests.support.https_receiver"
        argv = [self._port, self._files.certificate, self._files.key, self._file]
        self._process = subprocess.Popen([sys.executable, "-m", module, *map(str, argv)])

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def received(self) -> list[bytes]:
        return self._file.read_bytes().splitlines() if self._file.exists() else []


@pytest.fixture(params=[RelpReceiver, HttpsReceiver], ids=["relp", "https"])
def receiver(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Receiver]:
    if request.param is RelpReceiver and (RSYSLOGD is None or not (MODULES / "imrelp.so").exists()):
        pytest.skip("rsyslog-relp is not installed; `make setup` installs it")
    made: Receiver = request.param(short_path)
    try:
        yield made
    finally:
        made.kill()


class Sender:
    """The program of tests/support/delivering.py."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self._argv = [
            *(sys.executable, "-m", "tests.support.delivering", receiver.described),
            *(str(folder / "spool"), str(LINES), str(self.ledger)),
        ]
        self.process = subprocess.Popen(self._argv)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = subprocess.Popen(self._argv)

    def committed(self) -> int:
        return self.ledger.stat().st_size // 8


@pytest.mark.timeout(900)
def test_every_committed_line_arrives_in_order(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    sender = Sender(receiver, tmp_path)
    kills = SENDER_KILLS + RECEIVER_KILLS
    try:
        for kill in range(kills):
            part = LINES * (kill + 1) // (kills + 2)
            wait_until(lambda part=part: len(receiver.received()) >= part, "a part has arrived")
            if kill % 3 == 2:
                sender.kill()
            else:
                receiver.kill()
                receiver.start()
        assert sender.process.wait(600) == 0
    finally:
        sender.process.kill()
        sender.process.wait()
    committed = [int(number) for number in sender.ledger.read_bytes().split()]
    assert committed[-1] == LINES - 1
    received = list(dict.fromkeys(receiver.received()))
    # A kill between a commit and its note in the ledger sends those lines once more under new
    # numbers of the spool: order is asked of first arrivals.
    assert [number_of(one) for one in received] == list(range(LINES))
    assert received[0] == line(0)
