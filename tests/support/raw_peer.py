"""One end of a TCP connection, made segment by segment. The other end is the TCP of a lab's node.

Frames enter by a packet socket at a node's interface: whole, in fragments, with checksums left to
the hardware, or as super-packets. All frames that one thread sends on one CPU arrive in order.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from struct import pack, unpack_from
from typing import Any, Literal, Self

from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.support.bpf_frames import DSTOPTS, FLAGS, FRAGMENT, TCP
from tests.support.live_wire import Segment, parse_frame

MSS = 1_400
MSS_OPTION = pack("!BBH", 2, 4, MSS)
MD5 = b"\x01\x01\x13\x12" + bytes(16)
AO = b"\x01\x01\x1d\x10" + bytes(14)

Sum = Literal["right", "wrong", "pseudo"]
"""Of the TCP checksum; `pseudo` is the sum of the pseudo-header alone."""
Shape = Callable[[bytes, int], list[bytes]]
"""Makes the packets on the wire of an IP packet; they may use the identification."""

_SOL_PACKET, _VNET_HDR, _IGNORE_OUTGOING = 263, 15, 23
_SO_RCVBUFFORCE = 33
_VNET = struct.Struct("=BBHHHH")
_NEEDS_CSUM, _GSO_NONE, _GSO_TCPV4, _GSO_TCPV6 = 1, 0, 1, 4
"""struct virtio_net_hdr of <linux/virtio_net.h>."""
_ETH_ALL = 3
_BUFFER = 16 << 20
_POLL_SECONDS = 0.2


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    return ~(int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF) & 0xFFFF


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


class Wire:
    """A node's link, where peers without a kernel send and receive. A context manager."""

    def __init__(self, lab: Lab, node: Node, networks: tuple[str, str]) -> None:
        """The nodes in `lab.deckies` send what goes to `networks` (IPv4 and IPv6) to `node`."""
        self._peers: dict[tuple[str, int], Peer] = {}
        with node.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
            self._offloading = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self._socket.bind((node.interface, _ETH_ALL))
        self._socket.settimeout(_POLL_SECONDS)
        self._offloading.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        self._offloading.bind((node.interface, 0))
        self._mac: bytes = self._socket.getsockname()[4]
        self._macs: dict[str, bytes] = {}
        for network in networks:
            # Without it, the node would answer that these hosts are unreachable.
            done = lab.run(node, ["ip", "route", "replace", "blackhole", network])
            assert done.returncode == 0, done.stderr
        for decky in lab.deckies:
            if decky is node:
                continue
            for network, via in zip(networks, (node.v4, node.v6), strict=True):
                done = lab.run(decky, ["ip", "route", "replace", network, "via", via])
                assert done.returncode == 0, done.stderr
            with decky.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as there:
                there.bind((decky.interface, 0))
                self._macs |= dict.fromkeys((decky.v4, decky.v6), there.getsockname()[4])
        self._closed = False
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed = True
        self._thread.join()
        self._socket.close()
        self._offloading.close()

    def add(self, peer: Peer) -> None:
        self._peers[peer.here, peer.port] = peer

    def remove(self, peer: Peer) -> None:
        del self._peers[peer.here, peer.port]

    def send(self, peer: Peer, packet: bytes, gso_size: int | None = None) -> None:
        """Send an IP packet.

        With `gso_size` it is one whose checksum the hardware makes. It is a super-packet if it has
        more payload than that.
        """
        v6 = packet[0] >> 4 == 6
        frame = self._macs[peer.there] + self._mac + (b"\x86\xdd" if v6 else b"\x08\0") + packet
        if gso_size is None:
            self._socket.send(frame)
            return
        start = 14 + (40 if v6 else 20)
        head = start + (packet[start - 14 + 12] >> 4 << 2)
        kind = _GSO_NONE
        if len(frame) - head > gso_size:
            kind = _GSO_TCPV6 if v6 else _GSO_TCPV4
        size = gso_size if kind else 0
        self._offloading.send(_VNET.pack(_NEEDS_CSUM, kind, head, size, start, 16) + frame)

    def _receive(self) -> None:
        while not self._closed:
            try:
                segment = parse_frame(self._socket.recv(1 << 17))
            except TimeoutError:
                continue
            peer = segment and self._peers.get((segment.dst, segment.dport))
            if segment and peer and (segment.src, segment.sport) == (peer.there, peer.their_port):
                peer.take(segment)


class Peer:
    """One end. Positions count from the first byte of its stream.

    It accepts what comes in order, as any TCP does, but sends only what the test says.
    """

    def __init__(
        self,
        wire: Wire,
        here: tuple[str, int],
        there: tuple[str, int],
        isn: int,
        *,
        stamps: bool = True,
        offloads: bool = False,
    ) -> None:
        """`offloads`: it leaves checksums to the hardware, and sends super-packets."""
        self.here, self.port = here
        self.there, self.their_port = there
        self.isn, self.stamps, self.offloads = isn, stamps, offloads
        self.shape: Shape | None = None
        """How every packet is sent, if nothing else is said."""
        self.sent = b""
        """Its stream, as an honest end would send it again."""
        self.ended = False
        """Its FIN is sent."""
        self.expects = 0
        """The next number that it expects."""
        self.got = b""
        """What came in order."""
        self.acked = -1
        """The highest position that the other end has acknowledged."""
        self.connected = self.reset = self.finished = False
        self.opening: Segment | None = None
        """The other end's SYN or SYN-ACK, the first one."""
        self.echo = 0
        """The last timestamp that came, for the next segment."""
        self._clock, self._ident = isn >> 8 | 1, isn & 0x7FFF
        self._wire = wire
        self._changed = threading.Condition()
        self._family = socket.AF_INET6 if ":" in self.here else socket.AF_INET
        self._ends = packed(self.here) + packed(self.there)
        wire.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._wire.remove(self)

    # --- what comes ---

    def take(self, segment: Segment) -> None:
        """Take in a segment of the other end; called by the wire's thread."""
        with self._changed:
            self._take(segment)
            self._changed.notify_all()

    def _take(self, segment: Segment) -> None:
        if segment.flags & FLAGS["R"]:
            self.reset = True
            return
        stamp = _timestamp(segment.options)
        if stamp is not None:
            self.echo = stamp
        if segment.flags & FLAGS["S"]:
            if self.opening is None:
                self.opening = segment
                self.expects = segment.seq + 1 & 0xFFFF_FFFF
            if segment.flags & FLAGS["A"]:
                self.connected = True
        if segment.flags & FLAGS["A"]:
            position = segment.ack - self.isn - 1 & 0xFFFF_FFFF
            if position < 1 << 31:
                self.acked = max(self.acked, position)
        if segment.flags & FLAGS["S"] or self.opening is None:
            return
        old = self.expects - segment.seq & 0xFFFF_FFFF
        if old <= segment.payload_len:
            new = segment.start[old:]
            self.got += new
            self.expects = self.expects + len(new) & 0xFFFF_FFFF
            if segment.flags & FLAGS["F"] and not self.finished:
                self.finished = True
                self.expects = self.expects + 1 & 0xFFFF_FFFF

    def wait(self, condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait until the condition holds, or a RST came; whether it holds."""
        with self._changed:
            self._changed.wait_for(lambda: condition() or self.reset, seconds)
            return bool(condition())

    # --- what goes ---

    def stamp(self, age: int = 0) -> bytes:
        """The timestamps option; with `age` that of an old segment."""
        if not self.stamps:
            return b""
        self._clock += not age
        return b"\x01\x01\x08\x0a" + pack("!II", self._clock - age & 0xFFFF_FFFF, self.echo)

    def emit(
        self,
        data: bytes = b"",
        at: int | None = None,
        flags: str = "PA",
        *,
        ack: int | None = None,
        options: bytes | None = None,
        window: int = 64_000,
        urgent: int = 0,
        tcp_sum: Sum = "right",
        ip_sum: Sum = "right",
        shape: Shape | None = None,
    ) -> None:
        """Send one segment: at position `at` (None: the end of the stream), with ACK `ack`.

        `options` None: timestamps, if they are used.
        """
        seq = self.isn + 1 + (len(self.sent) + self.ended if at is None else at) & 0xFFFF_FFFF
        acked = (self.expects if "A" in flags else 0) if ack is None else ack & 0xFFFF_FFFF
        options = self.stamp() if options is None else options
        options += bytes(-len(options) % 4)
        words = (5 + len(options) // 4) << 12 | sum(FLAGS[flag] for flag in flags)
        head = pack("!HHIIHHHH", self.port, self.their_port, seq, acked, words, window, 0, urgent)
        whole = head + options + data
        size = MSS - len(options) if self.offloads else None
        if shape or self.shape or tcp_sum != "right" or ip_sum != "right":
            size = None
        kind: Sum = "pseudo" if size is not None else tcp_sum
        packet = self._packet(self._summed(whole, kind), ip_sum)
        for each in (shape or self.shape or _whole)(packet, self._ident):
            self._wire.send(self, each, size)

    def push(self, data: bytes, flags: str = "PA", **how: Any) -> None:
        """Send the next bytes of the stream."""
        at = len(self.sent)
        self.sent += data
        self.emit(data, at, flags, **how)

    def accept(self) -> None:
        """Acknowledge all that came."""
        self.emit(flags="A")

    def _summed(self, segment: bytes, kind: Sum) -> bytes:
        pseudo = self._ends + pack("!II", len(segment), TCP)
        if kind == "pseudo":
            total = ~checksum(pseudo) & 0xFFFF
        else:
            total = checksum(pseudo + segment) ^ (0x5A5A if kind == "wrong" else 0)
        return segment[:16] + pack("!H", total) + segment[18:]

    def _packet(self, segment: bytes, ip_sum: Sum = "right") -> bytes:
        self._ident += 1
        if self._family == socket.AF_INET6:
            return pack("!IHBB", 6 << 28, len(segment) & 0xFFFF, TCP, 64) + self._ends + segment
        return _ipv4(self._ends, segment, self._ident, 0x4000, ip_sum)


def _whole(packet: bytes, _: int) -> list[bytes]:
    return [packet]


def _ipv4(ends: bytes, payload: bytes, ident: int, word: int, ip_sum: Sum = "right") -> bytes:
    total = 20 + len(payload)
    head = pack("!BBHHHBBH", 0x45, 0, total, ident & 0xFFFF, word, 64, TCP, 0) + ends
    summed = checksum(head) ^ (0x5A5A if ip_sum != "right" else 0)
    return head[:10] + pack("!H", summed) + head[12:] + payload


def piece(packet: bytes, ident: int, start: int, data: bytes, more: bool) -> bytes:
    """A fragment of an IP packet: `data` from byte `start` of its payload on."""
    if packet[0] >> 4 == 4:
        return _ipv4(packet[12:20], data, ident, more << 13 | start >> 3)
    body = pack("!BBHI", packet[6], 0, start | more, ident) + data
    return packet[:4] + pack("!HBB", len(body), FRAGMENT, packet[7]) + packet[8:40] + body


def in_fragments(size: int) -> Shape:
    """Fragments of `size` bytes, a multiple of 8. Linux wants TCP's header in the first of IPv6."""

    def shape(packet: bytes, ident: int) -> list[bytes]:
        is_v6 = packet[0] >> 4 == 6
        payload = packet[40 if is_v6 else 20 :]
        starts = [0, *range(max(size, 40) if is_v6 else size, len(payload), size), len(payload)]
        return [
            piece(packet, ident, start, payload[start:end], end < len(payload))
            for start, end in pairwise(starts)
        ]

    return shape


def with_headers(count: int) -> Shape:
    """`count` IPv6 destination options headers before TCP."""

    def shape(packet: bytes, _: int) -> list[bytes]:
        kind, body = packet[6], packet[40:]
        for _number in range(count):
            body = bytes([kind, 0, 1, 4, 0, 0, 0, 0]) + body
            kind = DSTOPTS
        return [packet[:4] + pack("!HBB", len(body), kind, packet[7]) + packet[8:40] + body]

    return shape


def _timestamp(options: bytes) -> int | None:
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 8 and len(options) >= at + 10:
            return int(unpack_from("!I", options, at + 2)[0])
        at += 1 if options[at] == 1 else max(options[at + 1], 2) if at + 1 < len(options) else 40
    return None


@contextlib.contextmanager
def on_cpu(number: int) -> Iterator[None]:
    """Run the calling thread on one CPU of those it may use."""
    before = os.sched_getaffinity(0)
    cpus = sorted(before)
    os.sched_setaffinity(0, {cpus[number % len(cpus)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
