"""Notifies systemd of the agent's state: sd_notify(3), without a library."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

_USEC = 1_000_000


class ServiceManager:
    """Sends states to the socket that the service manager named, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._watchdog_s = _watchdog_seconds(environment)
        self._fed = 0.0

    def ready(self, status: str) -> None:
        """The agent watches, or waits for interfaces; or a reload is done."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, sentence: str) -> None:
        """One sentence for ``systemctl status``."""
        self._send(f"STATUS={sentence}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1_000}")

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog, if it is due. Call this in each round of the loop."""
        if self._watchdog_s is not None:
            now = time.monotonic()
            if now - self._fed >= self._watchdog_s / 2:
                self._fed = now
                self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, text: str) -> None:
        if self._address is not None:
            # A manager that is gone, or busy, ends no capture.
            with suppress(OSError):
                self._socket.sendto(text.encode("utf-8", "replace"), self._address)


def _address(named: str) -> str | bytes | None:
    if named.startswith("@"):
        return b"\0" + os.fsencode(named[1:])
    return named if named.startswith("/") else None


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """WATCHDOG_USEC in seconds, if it is for this process."""
    pid = environment.get("WATCHDOG_PID", "")
    usec = environment.get("WATCHDOG_USEC", "")
    if not (usec.isascii() and usec.isdigit()) or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / _USEC or None
