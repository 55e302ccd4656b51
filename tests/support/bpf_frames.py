"""Frames as bytes: Ethernet, IP and TCP headers, and the parts of TLS that the kernel side reads.

The first argument of each builder is the payload. Lengths are right unless a test says otherwise.
Checksums are 0, because the kernel side does not read them.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack
from typing import Any

ETH_IPV4, ETH_IPV6, ETH_ARP = 0x0800, 0x86DD, 0x0806
VLAN, QINQ, QINQ_OLD = 0x8100, 0x88A8, 0x9100

HOPOPTS, TCP, UDP, ROUTING, FRAGMENT, ESP, AH, NO_NEXT, DSTOPTS = 0, 6, 17, 43, 44, 50, 51, 59, 60
"""IP protocol numbers (RFC 8200, 4; RFC 4302)."""

DF, MF, RESERVED = 0x4000, 0x2000, 0x8000

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128, "N": 256}

CLIENT, DECKY, DECKY_B, STRANGER = "192.0.2.9", "198.51.100.7", "198.51.100.8", "203.0.113.5"
CLIENT6, DECKY6, DECKY6_B, STRANGER6 = (
    "2001:db8:1::9",
    "2001:db8:2::7",
    "2001:db8:2::8",
    "2001:db8:3::5",
)

MSS = b"\x02\x04\x05\xb4"
TIMESTAMP = b"\x08\x0a\x00\x00\x10\x01\x00\x00\x00\x00"
LINUX_OPTIONS = MSS + b"\x04\x02" + TIMESTAMP + b"\x01\x03\x03\x07"


def ethernet(packet: bytes, kind: int | None = None, tags: Sequence[tuple[int, int]] = ()) -> bytes:
    """`tags` are pairs of EtherType and tag control information, outermost first."""
    if kind is None:
        kind = ETH_IPV6 if packet[:1] and packet[0] >> 4 == 6 else ETH_IPV4
    head = bytes.fromhex("020000000001 020000000002")
    for tag, control in tags:
        head += pack("!HH", tag, control)
    return head + pack("!H", kind) + packet


def ipv4(
    payload: bytes,
    src: str = CLIENT,
    dst: str = DECKY,
    *,
    protocol: int = TCP,
    ttl: int = 64,
    tos: int = 0,
    ip_id: int = 0x1234,
    fragment: int = DF,
    options: bytes = b"",
    ihl: int | None = None,
    total: int | None = None,
    version: int = 4,
) -> bytes:
    """`fragment` is the flags and the offset in units of eight bytes."""
    head = 20 + len(options)
    return (
        pack(
            "!BBHHHBBH4s4s",
            version << 4 | (head // 4 if ihl is None else ihl),
            tos,
            head + len(payload) if total is None else total,
            ip_id,
            fragment,
            ttl,
            protocol,
            0,
            socket.inet_aton(src),
            socket.inet_aton(dst),
        )
        + options
        + payload
    )


def ipv6(
    payload: bytes,
    src: str = CLIENT6,
    dst: str = DECKY6,
    *,
    next_header: int = TCP,
    hop_limit: int = 64,
    traffic_class: int = 0,
    flow_label: int = 0x12345,
    length: int | None = None,
    version: int = 6,
) -> bytes:
    return (
        pack(
            "!IHBB16s16s",
            version << 28 | traffic_class << 20 | flow_label,
            len(payload) if length is None else length,
            next_header,
            hop_limit,
            socket.inet_pton(socket.AF_INET6, src),
            socket.inet_pton(socket.AF_INET6, dst),
        )
        + payload
    )


def extension(kind: int, next_header: int, payload: bytes, size: int = 8) -> bytes:
    """An IPv6 extension header of `size` bytes and `payload`. See fragment() for that header."""
    units = size // 4 - 2 if kind == AH else size // 8 - 1
    return pack("!BB", next_header, units) + bytes(size - 2) + payload


def fragment(next_header: int, payload: bytes, offset: int = 0, more: bool = False) -> bytes:
    """`offset` in units of eight bytes."""
    return pack("!BBHI", next_header, 0, offset << 3 | more, 0xF00D) + payload


def tcp(
    payload: bytes = b"",
    sport: int = 40_000,
    dport: int = 443,
    *,
    seq: int = 1_000,
    ack: int = 0,
    flags: str = "S",
    window: int = 64_240,
    urgent: int = 0,
    options: bytes = b"",
    offset: int | None = None,
) -> bytes:
    """`flags` are letters: F S R P A U E C N. `offset` is the header's length in words."""
    words = 5 + len(options) // 4 if offset is None else offset
    bits = sum(FLAGS[flag] for flag in flags)
    return (
        pack(
            "!HHIIHHHH",
            sport,
            dport,
            seq & 0xFFFF_FFFF,
            ack & 0xFFFF_FFFF,
            words << 12 | bits,
            window,
            0,
            urgent,
        )
        + options
        + payload
    )


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation between two addresses of one family, IPv4 by default.

    `c` makes a frame of the client, `s` one of the server. Sequence numbers count from each
    side's initial one: a SYN is 0, the first byte of data is 1.
    """

    client: str = CLIENT
    server: str = DECKY
    client_port: int = 40_000
    server_port: int = 443
    client_iss: int = 1_000
    server_iss: int = 5_000_000

    def c(
        self,
        flags: str,
        seq: int = 0,
        ack: int | None = None,
        data: bytes = b"",
        options: bytes = b"",
        *,
        window: int = 64_240,
        urgent: int = 0,
        **ip: Any,
    ) -> bytes:
        """`ack` None: the field is 0."""
        acked = 0 if ack is None else self.server_iss + ack
        return self._frame(
            (self.client, self.server),
            tcp(
                data,
                self.client_port,
                self.server_port,
                seq=self.client_iss + seq,
                ack=acked,
                flags=flags,
                window=window,
                urgent=urgent,
                options=options,
            ),
            ip,
        )

    def s(
        self,
        flags: str,
        seq: int = 0,
        ack: int | None = None,
        data: bytes = b"",
        options: bytes = b"",
        *,
        window: int = 64_240,
        urgent: int = 0,
        **ip: Any,
    ) -> bytes:
        """`ack` None: the field is 0."""
        acked = 0 if ack is None else self.client_iss + ack
        return self._frame(
            (self.server, self.client),
            tcp(
                data,
                self.server_port,
                self.client_port,
                seq=self.server_iss + seq,
                ack=acked,
                flags=flags,
                window=window,
                urgent=urgent,
                options=options,
            ),
            ip,
        )

    def opened(self) -> list[bytes]:
        """The three frames of the handshake."""
        return [self.c("S"), self.s("SA", 0, 1), self.c("A", 1, 1)]

    def closed(self, client: int = 1, server: int = 1) -> list[bytes]:
        """FINs and their acknowledgements, after the bytes that each side sent."""
        return [
            self.c("FA", client, server),
            self.s("FA", server, client + 1),
            self.c("A", client + 1, server + 1),
        ]

    def _frame(self, ends: tuple[str, str], segment: bytes, ip: dict[str, Any]) -> bytes:
        build = ipv6 if ":" in self.client else ipv4
        return ethernet(build(segment, *ends, **ip))


TALK6 = Talk(CLIENT6, DECKY6)


def record(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    """A TLS record (RFC 8446, 5.1)."""
    return pack("!BHH", kind, version, len(body)) + body


def hello(message: int, size: int = 200) -> bytes:
    """A record that holds one ClientHello (1) or ServerHello (2): `size` bytes in all."""
    body = size - 9
    return record(
        22, bytes([message]) + body.to_bytes(3, "big") + bytes(n & 0xFF for n in range(body))
    )


CLIENT_HELLO, SERVER_HELLO = hello(1), hello(2)
ALERT = record(21, b"\x01\x70")
"""A warning: unrecognized_name."""
CHANGE_CIPHER_SPEC = record(20, b"\x01")
APPLICATION_DATA = record(23, bytes(64))


def summed(frame: bytes) -> bytes:
    """The frame with right checksums in its IPv4 and TCP headers; no options, no extensions."""
    data = bytearray(frame)
    if frame[12:14] == b"\x08\x00":
        pseudo, at = bytes(frame[26:34]), 34
        data[24:26] = bytes(2)
        data[24:26] = _checksum(bytes(data[14:34])).to_bytes(2, "big")
    else:
        pseudo, at = bytes(frame[22:54]), 54
    size = len(frame) - at
    data[at + 16 : at + 18] = bytes(2)
    total = pseudo + pack("!II", TCP, size) + bytes(data[at:])
    data[at + 16 : at + 18] = _checksum(total).to_bytes(2, "big")
    return bytes(data)


def pseudo_summed(frame: bytes) -> bytes:
    """The frame with only the sum of the pseudo-header, which a network card is to complete."""
    data = bytearray(summed(frame))
    at = 34 if frame[12:14] == b"\x08\x00" else 54
    pseudo = bytes(frame[26:34] if at == 34 else frame[22:54])
    partial = 0xFFFF ^ _checksum(pseudo + pack("!II", TCP, len(frame) - at))
    data[at + 16 : at + 18] = partial.to_bytes(2, "big")
    return bytes(data)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = int.from_bytes(data + bytes(len(data) & 1), "big") % 0xFFFF
    return 0xFFFF ^ total
