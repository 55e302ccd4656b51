"""Sends IP fragments to this kernel through a TUN device, and reads what it puts together."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from struct import pack

from deckwire.ip.fragment import checksum
from deckwire.kernel.namespaces import inside
from tests.support.tun import DEVICE, tun_device

SERVER, CLIENT = "192.0.2.10", "198.51.100.9"
SERVER6, CLIENT6 = "2001:db8:2::10", "2001:db8:9::9"
TCP, FRAGMENT = 6, 44
_COMMANDS = (
    f"link set {DEVICE} up",
    f"addr add {SERVER}/24 dev {DEVICE}",
    f"route add 198.51.100.0/24 dev {DEVICE}",
    f"addr add {SERVER6}/64 dev {DEVICE} nodad",
    f"route add 2001:db8:9::/64 dev {DEVICE}",
)
_ROOM = "67108864"


def fragment4(
    data: bytes,
    start: int,
    *,
    more: bool,
    ident: int,
    tos: int = 0,
    options: bytes = b"",
    df: int = 0,
) -> bytes:
    """An IPv4 fragment with a right checksum; `start` in bytes."""
    head = pack(
        "!BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        tos,
        20 + len(options) + len(data),
        ident,
        df << 14 | more << 13 | start >> 3,
        64,
        TCP,
        0,
        socket.inet_aton(CLIENT),
        socket.inet_aton(SERVER),
    )
    total = checksum(head + options)
    return head[:10] + pack("!H", total) + head[12:] + options + data


def fragment6(
    data: bytes, start: int, *, more: bool, ident: int, tos: int = 0, next_header: int = TCP
) -> bytes:
    """An IPv6 fragment; `start` in bytes."""
    return (
        pack("!IHBB", 6 << 28 | tos << 20, 8 + len(data), FRAGMENT, 64)
        + socket.inet_pton(socket.AF_INET6, CLIENT6)
        + socket.inet_pton(socket.AF_INET6, SERVER6)
        + pack("!BBHI", next_header, 0, start | more, ident)
        + data
    )


class FragmentPeer:
    """A TUN device. Raw sockets at the other end read every TCP packet that IP delivers."""

    def __init__(self, device: int, raw4: socket.socket, raw6: socket.socket) -> None:
        self._device = device
        self._raw = {4: raw4, 6: raw6}

    def send(self, packet: bytes) -> list[bytes]:
        """Send one packet; return what the kernel delivered because of it.

        Of IPv4 that is the packet with its header, of IPv6 the payload.
        """
        os.write(self._device, packet)
        delivered = []
        with suppress(BlockingIOError):
            while True:
                delivered.append(self._raw[packet[0] >> 4].recv(70_000))
        return delivered


@contextmanager
def fragment_peer() -> Iterator[FragmentPeer]:
    """Run the receiver in a separate network namespace."""
    with ExitStack() as undo:
        device, name = undo.enter_context(tun_device("frag", _COMMANDS))
        with inside(name):
            raw4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, TCP)
            raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, TCP)
        for raw in (raw4, raw6):
            undo.enter_context(raw)
            raw.setblocking(False)
        # Datagrams of earlier examples wait for half a minute.
        settings = f"net.ipv4.ipfrag_high_thresh={_ROOM}", f"net.ipv6.ip6frag_high_thresh={_ROOM}"
        subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", *settings], check=True)
        yield FragmentPeer(device, raw4, raw6)
