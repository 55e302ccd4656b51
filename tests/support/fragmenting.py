"""A TLS client whose TCP segments the test makes, whole or in IP fragments, over IPv4 and IPv6."""

from __future__ import annotations

import socket
import ssl
import time
from itertools import pairwise
from struct import pack
from typing import Self

from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.support.live_wire import ACK, FIN, SYN, link_socket, parse_frame

ADDRESS, ADDRESS6 = "198.18.0.251", "2001:db8::fb"
_SEGMENT = 1_000


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    return ~(int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF) & 0xFFFF


class FragmentingClient:
    """A TCP client without a kernel. The network must lose nothing, because it repeats nothing.

    No node has its address. A neighbour entry on the server gives the link address.
    """

    def __init__(self, lab: Lab, server: Node, version: int, port: int, size: int | None) -> None:
        """`port` is the client's own. `size` is the bytes in a fragment; None: packets are whole.

        Over IPv6, the first fragment has 24 bytes at least: Linux refuses one without the whole
        TCP header.
        """
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._here = ADDRESS if version == 4 else ADDRESS6
        self._there = server.v4 if version == 4 else server.v6
        self._port, self._size = port, size
        self._seq, self._ack, self._ident = 0x1000_0000, 0, port << 4
        self.fragments = 0
        self._socket, self._mac, self._peer_mac = link_socket(lab, server, self._here)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def talk(self, context: ssl.SSLContext, name: str) -> None:
        """Open, make a TLS handshake, send a request, read the reply, and close both ends."""
        self._send(SYN, options=b"\x02\x04\x05\xb4")
        self._receive()
        self._send(ACK)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._send_all(outgoing.read())
                incoming.write(self._receive())
        tls.write(b"GET / HTTP/1.0\r\n\r\n")
        self._send_all(outgoing.read())
        closed = False
        while not closed:
            try:
                closed = not tls.read()
            except ssl.SSLWantReadError:
                incoming.write(self._receive())
            except ssl.SSLZeroReturnError:
                closed = True
        self._send(FIN | ACK)
        self._seq += 1
        while not self._peer_closed:
            self._receive()

    _peer_closed = False

    def _send_all(self, data: bytes) -> None:
        for at in range(0, len(data), _SEGMENT):
            self._send(ACK, data[at : at + _SEGMENT])

    def _send(self, flags: int, payload: bytes = b"", options: bytes = b"") -> None:
        words = 5 + len(options) // 4
        ack = self._ack if flags & ACK else 0
        head = pack("!HHIIHHHH", self._port, 443, self._seq, ack, words << 12 | flags, 64_240, 0, 0)
        tcp = head + options + payload
        ends = socket.inet_pton(self._family, self._here) + socket.inet_pton(
            self._family, self._there
        )
        summed = checksum(ends + pack("!II", len(tcp), socket.IPPROTO_TCP) + tcp)
        tcp = tcp[:16] + pack("!H", summed) + tcp[18:]
        self._seq += len(payload) + bool(flags & SYN)
        self._ident += 1
        kind = b"\x08\x00" if self._family == socket.AF_INET else b"\x86\xdd"
        for packet in self._packets(ends, tcp):
            self._socket.send(self._peer_mac + self._mac + kind + packet)

    def _packets(self, ends: bytes, tcp: bytes) -> list[bytes]:
        if self._size is None:
            return [self._packet(ends, tcp, 0, False)]
        first = self._size if self._family == socket.AF_INET else max(24, self._size)
        places = [0, *range(first, len(tcp), self._size), len(tcp)]
        if len(places) > 2:
            self.fragments += len(places) - 1
        return [self._packet(ends, tcp[a:b], a, b < len(tcp)) for a, b in pairwise(places)]

    def _packet(self, ends: bytes, data: bytes, start: int, more: bool) -> bytes:
        if self._family == socket.AF_INET:
            word = more << 13 | start >> 3
            ident = self._ident & 0xFFFF
            head = pack("!BBHHHBBH", 0x45, 0, 20 + len(data), ident, word, 64, 6, 0) + ends
            return head[:10] + pack("!H", checksum(head)) + head[12:] + data
        following = 6
        if start or more:
            data = pack("!BBHI", 6, 0, start | more, self._ident) + data
            following = 44
        return pack("!IHBB", 6 << 28, len(data), following, 64) + ends + data

    def _receive(self) -> bytes:
        """Wait until the server's stream goes on, acknowledge it, and return the new bytes."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.01))
            frame = self._socket.recv(70_000)
            segment = parse_frame(frame)
            if segment is None or (segment.dst, segment.dport) != (self._here, self._port):
                continue
            if segment.flags & SYN:
                self._ack = segment.seq + 1 & 0xFFFF_FFFF
                return b""
            new = bool(segment.payload_len or segment.flags & FIN)
            if not new or segment.seq != self._ack:
                continue
            self._ack += segment.payload_len + bool(segment.flags & FIN)
            self._peer_closed = bool(segment.flags & FIN)
            self._send(ACK)
            return segment.start
