"""States go to the socket that systemd names, and a missing or hostile environment is no matter."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.runtime.service_manager import ServiceManager


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(PATIENCE_SECONDS)

    def read(self) -> dict[str, str]:
        lines = self._socket.recv(65_536).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def is_silent(self) -> bool:
        self._socket.setblocking(False)
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Manager]]:
    address = f"@deckwire-test-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/n"
    manager = Manager(address)
    yield address, manager
    manager.close()


def test_each_state_has_its_words(named: tuple[str, Manager]) -> None:
    address, manager = named
    ours = ServiceManager({"NOTIFY_SOCKET": address})
    ours.ready("watching 3 deckies")
    assert manager.read() == {"READY": "1", "STATUS": "watching 3 deckies"}
    ours.status("degraded: eth0 is missing")
    assert manager.read() == {"STATUS": "degraded: eth0 is missing"}
    ours.reloading()
    reloading = manager.read()
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    ours.stopping()
    assert manager.read() == {"STOPPING": "1"}
    ours.close()


def test_the_watchdog_is_fed_twice_as_often_as_asked(named: tuple[str, Manager]) -> None:
    address, manager = named
    ours = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(60 * 10**6)})
    ours.alive()
    assert manager.read() == {"WATCHDOG": "1"}
    ours.alive()
    assert manager.is_silent()
    ours._fed -= 30
    ours.alive()
    ours.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
    ],
)
def test_nobody_asked_for_a_watchdog(
    named: tuple[str, Manager], environment: dict[str, str]
) -> None:
    address, manager = named
    ours = ServiceManager({"NOTIFY_SOCKET": address} | environment)
    ours.alive()
    assert manager.is_silent()
    ours.close()


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@nobody-listens"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    ours = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    ours.ready("watching")
    ours.alive()
    ours.stopping()
    ours.close()
