"""Prepared frames that sendmmsg(2) sends from the client's end of the lab."""

from __future__ import annotations

import ctypes
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from struct import Struct, pack

from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import LabError

PORT = 443

_BATCH = 1_024
"""UIO_MAXIOV: the most messages that one sendmmsg(2) takes."""
_TICK_SECONDS = 0.01
_SETTLE_SECONDS = 1.0
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20
_IOVEC = Struct("=QQ")
_MMSGHDR = Struct("=QIxxxxQQQQIxxxxIxxxx")
"""msg_name, namelen, iov, iovlen, control, controllen, flags, then msg_len."""
_OPTIONS = bytes.fromhex("020405b40402080a000010010000000001030307")
"""The options of Linux: MSS, SACK, timestamps, NOP, window scale."""
_SOURCES = 10 << 24
"""10.0.0.0/8: no node of the lab has an address there."""

_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg = _libc["sendmmsg"]
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Burst:
    """Frames laid out in memory for sendmmsg(2), and the socket that sends them."""

    def __init__(self, lab: Lab, frames: Sequence[bytes]) -> None:
        self.count = len(frames)
        data = b"".join(frames)
        self._data = ctypes.create_string_buffer(data, len(data))
        self._iovecs = ctypes.create_string_buffer(self.count * _IOVEC.size)
        self._messages = ctypes.create_string_buffer(self.count * _MMSGHDR.size)
        start, iovecs = ctypes.addressof(self._data), ctypes.addressof(self._iovecs)
        for number, frame in enumerate(frames):
            at = number * _IOVEC.size
            _IOVEC.pack_into(self._iovecs, at, start, len(frame))
            _MMSGHDR.pack_into(
                self._messages, number * _MMSGHDR.size, 0, 0, iovecs + at, 1, 0, 0, 0, 0
            )
            start += len(frame)
        with lab.client.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        self._socket.bind((lab.client.interface, 0))

    def send(self, first: int = 0, count: int | None = None) -> int:
        """Send `count` frames from `first` on (None: all) at full speed. Returns their number."""
        end = self.count if count is None else min(first + count, self.count)
        at, messages = first, ctypes.addressof(self._messages)
        while at < end:
            sent = _sendmmsg(
                self._socket.fileno(), messages + at * _MMSGHDR.size, min(_BATCH, end - at), 0
            )
            if sent < 0:
                raise LabError(f"sendmmsg: errno {ctypes.get_errno()}")
            at += sent
        return at - first

    def once(self, rate: int) -> int:
        """Send the frames once, `rate` a second. Returns their number."""
        step = round(rate * _TICK_SECONDS)
        sent, due = 0, time.monotonic()
        while sent < self.count:
            sent += self.send(sent, step)
            due += _TICK_SECONDS
            time.sleep(max(due - time.monotonic(), 0))
        return sent

    def repeat(self, rate: int, begun: threading.Event, is_over: Callable[[], bool]) -> int:
        """Send the frames again and again, `rate` a second; how many were sent in all.

        `begun` is set as soon as the flood has lasted a second.
        """
        step = round(rate * _TICK_SECONDS)
        sent = at = 0
        started = due = time.monotonic()
        while not is_over():
            sent += self.send(at, step)
            at = (at + step) % self.count
            due += _TICK_SECONDS
            time.sleep(max(due - time.monotonic(), 0))
            if time.monotonic() - started > _SETTLE_SECONDS:
                begun.set()
        return sent

    def close(self) -> None:
        self._socket.close()


def spoofed_syns(lab: Lab, decky: Node, count: int, sources: int | None = None) -> list[bytes]:
    """SYNs to one decky from `sources` addresses (None: each from its own), checksums correct."""
    head = link_address(lab, decky) + link_address(lab, lab.client) + b"\x08\x00"
    address = socket.inet_aton(decky.v4)
    tcp_bytes = 20 + len(_OPTIONS)
    fixed = _sum(address) + 6 + tcp_bytes + PORT + 0xA002 + 64_240 + _sum(_OPTIONS)
    ip_fixed = 0x4500 + 20 + tcp_bytes + 0x4000 + 0x4006 + _sum(address)
    frames = []
    for number in range(count):
        source = _SOURCES + number % (sources or count) + 1
        source_words = (source >> 16) + (source & 0xFFFF)
        sport, seq = 1_024 + number % 60_000, number * 2_654_435_761 & 0xFFFF_FFFF
        check = _fold(fixed + source_words + sport + (seq >> 16) + (seq & 0xFFFF))
        ip = (0x45, 0, 20 + tcp_bytes, 0, 0x4000, 64, 6, _fold(ip_fixed + source_words))
        tcp = (sport, PORT, seq, 0, 0xA002, 64_240, check, 0)
        frames.append(head + pack("!BBHHHBBHI4sHHIIHHHH", *ip, source, address, *tcp) + _OPTIONS)
    return frames


def source_address(number: int) -> str:
    """An address that no node has, as text."""
    return socket.inet_ntoa((_SOURCES + number + 1).to_bytes(4))


def link_address(lab: Lab, node: Node) -> bytes:
    """The MAC address of a node's interface."""
    done = lab.run(node, ["ip", "-j", "link", "show", node.interface])
    (link,) = json.loads(done.stdout)
    return bytes.fromhex(link["address"].replace(":", ""))


def _sum(data: bytes) -> int:
    return sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))


def _fold(total: int) -> int:
    """RFC 1071."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
