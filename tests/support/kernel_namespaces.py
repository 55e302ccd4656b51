"""Separate network namespaces for a test, and the programs attached in them."""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import TypeVar

from deckwire.kernel.namespaces import inside
from deckwire.kernel.syscalls import bpf
from deckwire.lab.namespaces import wait_until

T = TypeVar("T")

PROG_QUERY = 16
FRAME = bytes.fromhex("020000000001 020000000002 88b5") + bytes(50)
"""A frame with the EtherType for local experiments (0x88B5, IEEE 802)."""

IPV6_OFF = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")

HAS_TCX = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 6)

_numbers = itertools.count()


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return done.stdout


class Namespace:
    """A network namespace with one end of a veth pair, ``dw0``.

    The other end, ``dw1``, is in a second namespace.
    """

    def __init__(self) -> None:
        stem = f"dwkern{os.getpid()}-{next(_numbers)}"
        self.name, self.peer = stem, f"{stem}p"
        ip("netns", "add", self.name)
        ip("netns", "add", self.peer)
        for name in (self.name, self.peer):  # IPv6 neighbour discovery would be counted too
            self.run(lambda: IPV6_OFF.write_text("1"), name)
        self.add_veth()

    def add_veth(self) -> None:
        """Return when both ends are up: the kernel reports a carrier a moment later."""
        self.ip("link", "add", "dw0", "type", "veth", "peer", "name", "dw1", "netns", self.peer)
        self.ip("link", "set", "dw0", "up")
        ip("-n", self.peer, "link", "set", "dw1", "up")
        wait_until(lambda: " state UP " in self.ip("link", "show", "dw0"), "a carrier of dw0")

    def add_pairs(self, count: int) -> None:
        """Add veth pairs ``a0`` and ``b0``, ``a1`` and ``b1`` and so on, all in this namespace."""
        lines = [f"link add a{n} type veth peer name b{n}" for n in range(count)]
        command = ["ip", "-n", self.name, "-batch", "-"]
        subprocess.run(command, check=True, input="\n".join(lines), text=True)

    def ip(self, *words: str) -> str:
        return ip("-n", self.name, *words)

    def tc(self, *words: str) -> str:
        done = subprocess.run(
            ["tc", "-n", self.name, *words], check=True, capture_output=True, text=True
        )
        return done.stdout

    def run(self, function: Callable[[], T], name: str = "") -> T:
        """Run `function` in a thread that has entered this namespace, or the one called `name`."""
        results: list[T] = []
        errors: list[Exception] = []

        def enter() -> None:
            try:
                with inside(name or self.name):
                    results.append(function())
            except Exception as error:  # raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=enter, daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def ifindex(self, interface: str = "dw0") -> int:
        return self.run(lambda: socket.if_nametoindex(interface))

    def send(self, count: int) -> None:
        """Send frames from the peer to dw0. They have passed ingress when this returns."""

        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packets:
                packets.bind(("dw1", 0))
                for _ in range(count):
                    packets.send(FRAME)

        self.run(send, self.peer)

    def attached(self, attach_type: int, interface: str = "dw0") -> list[int]:
        """Ids of the programs that TCX runs on the interface, in the order of their runs."""
        if not HAS_TCX:
            return []
        ids = (ctypes.c_uint32 * 64)()
        ifindex = self.ifindex(interface)
        layout = Struct("IIIIQIIQQQQ")

        def query() -> int:
            attr = ctypes.create_string_buffer(layout.size)
            layout.pack_into(
                attr, 0, ifindex, attach_type, 0, 0, ctypes.addressof(ids), 64, 0, 0, 0, 0, 0
            )
            bpf(PROG_QUERY, attr, "query")
            return int(layout.unpack(attr)[5])

        return list(ids[: self.run(query)])

    def delete(self) -> None:
        for name in (self.name, self.peer):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
