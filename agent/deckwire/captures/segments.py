"""Cut TCP super-packets back into the segments that the wire carried.

If the capturing host offloads segmentation, its captures hold packets of up to 64 KB, or 512 KB
with BIG TCP. BPF_PROG_TEST_RUN does not accept packets of that size. The segments have the same
headers, with sequence numbers, lengths and checksums of their own: the capturing host did not fill
those in, and the BPF programs refuse wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from deckwire.limits import SUPER_PACKET_BYTES, SUPER_PACKET_HEADER_BYTES
from deckwire.tcp.addresses import MAPPED_PREFIX

ETHERNET_BYTES = 14
IPV4, IPV6 = 0x0800, 0x86DD
TAGS = frozenset({0x8100, 0x88A8, 0x9100})
TAG_BYTES = 4

IPV4_BYTES, IPV6_BYTES, TCP_BYTES = 20, 40, 20
IPV4_LENGTH, IPV6_LENGTH, IPV6_NEXT = 2, 4, 6
"""Offsets in the IP header: total length; payload length; next header."""
FRAGMENT_BITS = 0x3FFF
"""More-fragments bit and fragment offset (RFC 791, 3.1)."""

TCP = 6
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS = frozenset({HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION})
"""Headers that may come before an unfragmented TCP header (RFC 8200, 4; RFC 4302)."""
JUMBO_BYTES = 8
JUMBO = bytes.fromhex("c204")
"""The Jumbo Payload option as the only one in its Hop-by-Hop header (RFC 2675, 2; BIG TCP)."""

IPV4_CHECKSUM = 10

SEQ, OFFSET, FLAGS, CHECKSUM = 4, 12, 13, 16
"""Offsets in the TCP header (RFC 9293, 3.1)."""
FIN, SYN, RST, PSH, CWR = 0x01, 0x02, 0x04, 0x08, 0x80
ON_LAST = FIN | RST | PSH
ON_FIRST = SYN | CWR

U16, U32 = Struct("!H"), Struct("!I")


@dataclass(frozen=True, slots=True)
class Layers:
    """Offsets of the headers of a TCP packet in its frame, and the payload length they claim."""

    frame: bytes
    """The captured frame without a Jumbo Payload header, which segments do not need."""
    ip: int
    ip_version: int
    tcp: int
    payload: int
    claimed: int
    """Length of the TCP payload by the IP header; the capture may hold fewer bytes."""


class TcpEnds(NamedTuple):
    """Who sent a TCP packet to whom; addresses are 16 bytes, IPv4 as v4-mapped."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    flags: int


def tcp_ends(ethernet_frame: bytes) -> TcpEnds | None:
    """Return the ends of a whole TCP packet; None if the frame holds none."""
    layers = _layers(ethernet_frame)
    if layers is None:
        return None
    frame, ip, tcp = layers.frame, layers.ip, layers.tcp
    if layers.ip_version == 4:
        source, destination = (
            MAPPED_PREFIX + frame[ip + 12 : ip + 16],
            MAPPED_PREFIX + frame[ip + 16 : ip + 20],
        )
    else:
        source, destination = frame[ip + 8 : ip + 24], frame[ip + 24 : ip + 40]
    ports = U16.unpack_from(frame, tcp)[0], U16.unpack_from(frame, tcp + 2)[0]
    return TcpEnds(source, ports[0], destination, ports[1], frame[tcp + FLAGS])


def may_be_fragment(ethernet_frame: bytes) -> bool:
    """Return whether a frame may be an IP fragment: False for most frames, for next to no time."""
    if len(ethernet_frame) < ETHERNET_BYTES + IPV4_BYTES:
        return False
    ip = ETHERNET_BYTES
    (protocol,) = U16.unpack_from(ethernet_frame, ip - 2)
    while protocol in TAGS and len(ethernet_frame) >= ip + TAG_BYTES + IPV4_BYTES:
        ip += TAG_BYTES
        (protocol,) = U16.unpack_from(ethernet_frame, ip - 2)
    if protocol == IPV4:
        return bool(U16.unpack_from(ethernet_frame, ip + 6)[0] & FRAGMENT_BITS)
    following = ethernet_frame[ip + IPV6_NEXT]
    return protocol == IPV6 and (following == FRAGMENT or following in EXTENSIONS)


def split_segments(ethernet_frame: bytes, max_len: int) -> list[bytes]:
    """Return the frame as frames of at most `max_len` bytes, in order.

    A frame that fits is returned unchanged. If a TCP packet does not fit, the payload lengths that
    its segments claim add up to the length that the packet claims. If the capture cut the
    payload, the segments are cut at the same byte.

    A frame that is not TCP, is a fragment or is malformed cannot be divided. Then the only
    element is its first `max_len` bytes, by which the caller recognises the case.
    """
    if len(ethernet_frame) <= max_len:
        return [ethernet_frame]
    layers = _layers(ethernet_frame)
    room = max_len - layers.payload if layers else 0
    if layers is None or room <= 0:
        return [ethernet_frame[:max_len]]
    return [
        _segment(layers, start, min(start + room, layers.claimed))
        for start in range(0, max(layers.claimed, 1), room)
    ]


def _segment(layers: Layers, start: int, end: int) -> bytes:
    """Return the segment with the payload bytes from `start` to `end`."""
    header = bytearray(layers.frame[: layers.payload])
    if layers.ip_version == 4:
        U16.pack_into(header, layers.ip + IPV4_LENGTH, layers.payload - layers.ip + end - start)
    else:
        extensions = layers.payload - layers.ip - IPV6_BYTES
        U16.pack_into(header, layers.ip + IPV6_LENGTH, extensions + end - start)
    flags = header[layers.tcp + FLAGS]
    # A SYN takes one sequence number before its data.
    advance = start + 1 if start and flags & SYN else start
    (seq,) = U32.unpack_from(header, layers.tcp + SEQ)
    U32.pack_into(header, layers.tcp + SEQ, (seq + advance) & 0xFFFF_FFFF)
    if start:
        flags &= ~ON_FIRST
    if end < layers.claimed:
        flags &= ~ON_LAST
    header[layers.tcp + FLAGS] = flags
    payload = layers.frame[layers.payload + start : layers.payload + end]
    _fill_checksums(layers, header, payload)
    return bytes(header) + payload


def _fill_checksums(layers: Layers, header: bytearray, payload: bytes) -> None:
    """Write the right checksums into the headers of a segment (RFC 791, 3.1; RFC 9293, 3.1)."""
    addresses = header[layers.ip + 8 : layers.ip + IPV6_BYTES]
    if layers.ip_version == 4:
        addresses = header[layers.ip + 12 : layers.ip + IPV4_BYTES]
        U16.pack_into(header, layers.ip + IPV4_CHECKSUM, 0)
        U16.pack_into(header, layers.ip + IPV4_CHECKSUM, _checksum(header[layers.ip : layers.tcp]))
    U16.pack_into(header, layers.tcp + CHECKSUM, 0)
    size = layers.payload - layers.tcp + len(payload)
    pseudo = addresses + U32.pack(TCP) + U32.pack(size)
    total = pseudo + header[layers.tcp :] + payload
    U16.pack_into(header, layers.tcp + CHECKSUM, _checksum(total))


def _checksum(data: bytes | bytearray) -> int:
    """The Internet checksum (RFC 1071)."""
    even = data + bytes(len(data) & 1)
    return 0xFFFF ^ int.from_bytes(even, "big") % 0xFFFF


def _layers(frame: bytes) -> Layers | None:
    """Return the headers down to TCP; None for a cut header, a fragment or another protocol."""
    if len(frame) < ETHERNET_BYTES:
        return None
    ip = ETHERNET_BYTES
    (protocol,) = U16.unpack_from(frame, ip - 2)
    while protocol in TAGS and len(frame) >= ip + TAG_BYTES:
        ip += TAG_BYTES
        (protocol,) = U16.unpack_from(frame, ip - 2)
    if protocol == IPV4:
        return _ipv4(frame, ip)
    if protocol == IPV6:
        return _ipv6(frame, ip)
    return None


def _ipv4(frame: bytes, ip: int) -> Layers | None:
    if len(frame) < ip + IPV4_BYTES:
        return None
    header_len = (frame[ip] & 0x0F) * 4
    (fragment,) = U16.unpack_from(frame, ip + 6)
    if frame[ip] >> 4 != 4 or header_len < IPV4_BYTES or fragment & FRAGMENT_BITS:
        return None
    if frame[ip + 9] != TCP:
        return None
    (total,) = U16.unpack_from(frame, ip + IPV4_LENGTH)
    return _tcp(frame, ip, 4, ip + header_len, ip + total if total else len(frame))


def _ipv6(frame: bytes, ip: int) -> Layers | None:
    if len(frame) < ip + IPV6_BYTES or frame[ip] >> 4 != 6:
        return None
    (payload_len,) = U16.unpack_from(frame, ip + IPV6_LENGTH)
    position = ip + IPV6_BYTES
    end = position + payload_len if payload_len else len(frame)
    if frame[ip + IPV6_NEXT] == HOP_BY_HOP and frame[position + 2 : position + 4] == JUMBO:
        if payload_len or len(frame) < position + JUMBO_BYTES or frame[position + 1]:
            return None
        (jumbo_len,) = U32.unpack_from(frame, position + 4)
        end = position + jumbo_len - JUMBO_BYTES
        # Packets below 64 KB must not have the option (RFC 2675, 3), so it is removed.
        following = frame[position : position + 1]
        frame = (
            frame[: ip + IPV6_NEXT]
            + following
            + frame[ip + IPV6_NEXT + 1 : position]
            + frame[position + JUMBO_BYTES :]
        )
    kind = frame[ip + IPV6_NEXT]
    while kind in EXTENSIONS and len(frame) >= position + 8:
        # AH counts its length in 4-byte words after the first two, the others in 8-byte units.
        words = (frame[position + 1] + 2) * 4 if kind == AUTHENTICATION else 0
        kind, position = frame[position], position + (words or (frame[position + 1] + 1) * 8)
    if kind != TCP:
        return None
    return _tcp(frame, ip, 6, position, end)


def _tcp(frame: bytes, ip: int, ip_version: int, tcp: int, end: int) -> Layers | None:
    """Return the layers of a packet that ends at `end` by its IP length, also if that is cut."""
    if len(frame) < tcp + TCP_BYTES:
        return None
    header_len = (frame[tcp + OFFSET] >> 4) * 4
    payload = tcp + header_len
    if header_len < TCP_BYTES or len(frame) < payload or end < payload:
        return None
    if end - ip > SUPER_PACKET_BYTES or payload > SUPER_PACKET_HEADER_BYTES:
        return None
    return Layers(frame, ip, ip_version, tcp, payload, end - payload)
