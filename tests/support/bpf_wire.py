"""A veth pair between two network namespaces of one test, and raw frames over it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from deckwire.kernel.namespaces import inside

T = TypeVar("T")

WATCHED, PEER = "dwbpf0", "dwbpf1"
"""The interface that carries the programs, and the other end."""

IPV6_OFF = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")


class Wire:
    """A wire that carries nothing but the frames of the test."""

    def __init__(self, mtu: int = 1_500) -> None:
        self.name = f"dwbpf{os.getpid()}"
        self._peer = f"{self.name}p"
        for name in (self.name, self._peer):
            _ip("netns", "add", name)
            self._run(name, lambda: IPV6_OFF.write_text("1"))
        _ip(
            *("-n", self.name, "link", "add", WATCHED, "mtu", str(mtu), "type", "veth"),
            *("peer", "name", PEER, "mtu", str(mtu), "netns", self._peer),
        )
        _ip("-n", self.name, "link", "set", WATCHED, "up")
        _ip("-n", self._peer, "link", "set", PEER, "up")

    def send(self, frames: Iterable[bytes]) -> None:
        """Sends frames from the peer: they pass the ingress of the watched interface."""
        self._run(self._peer, lambda: _send(PEER, frames))

    def send_out(self, frames: Iterable[bytes]) -> None:
        """Sends frames from the watched interface: they pass its egress."""
        self._run(self.name, lambda: _send(WATCHED, frames))

    def close(self) -> None:
        for name in (self.name, self._peer):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def _run(self, name: str, function: Callable[[], T]) -> T:
        """Calls `function` in a thread that has entered the namespace."""
        results: list[T] = []
        errors: list[Exception] = []

        def enter() -> None:
            try:
                with inside(name):
                    results.append(function())
            except Exception as error:  # raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=enter, daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]


def _send(interface: str, frames: Iterable[bytes]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packets:
        packets.bind((interface, 0))
        for frame in frames:
            packets.send(frame)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
