"""One IP fragment, read from its frame by the rules of Linux (ip_rcv, ip6_rcv, ipv6_frag_rcv)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

IPV4_BYTES, IPV6_BYTES, FRAGMENT_BYTES, TCP_BYTES = 20, 40, 8, 20
HOP_BY_HOP, TCP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 6, 43, 44, 51, 60
EXTENSIONS = frozenset({HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION})
LONGEST = 65_535
"""Bytes of the longest IPv4 packet, and of the longest payload of an IPv6 one."""
DF, MF = 0x4000, 0x2000
OFFSET = 0x1FFF
"""The fragment offset of IPv4, in units of eight bytes (RFC 791, 3.1)."""
OFFSET6, MORE6 = 0xFFF8, 0x0001
"""The same of IPv6, in bytes, and the flag of more fragments (RFC 8200, 4.5)."""

_IPV4 = Struct("!BBHHHBBH4s4s")
_IPV6 = Struct("!IHBB16s16s")
_FRAGMENT = Struct("!BBHI")


class RefusedError(Exception):
    """A fragment that the receiver drops at once; the message names the cause."""


Key = tuple[bool, bytes, int]
"""The datagram of a fragment: seen at ingress, source and destination address, identification."""


class Fragment(NamedTuple):
    """A fragment of a datagram."""

    key: Key
    source: bytes
    """Who sent it: an IPv4 address, or the first half of an IPv6 address."""
    ip_version: int
    start: int
    """Offset of its first byte in the datagram's payload."""
    more: bool
    """It is not the last one."""
    head: bytes
    """The frame up to the payload, without the fragment header: the packet's, if `start` is 0."""
    l3_off: int
    data: bytes
    ecn: int
    """The ECN field (RFC 3168, 5), 0 to 3."""
    df: bool
    """IPv4 don't fragment."""

    @property
    def end(self) -> int:
        """One past its last byte in the datagram's payload."""
        return self.start + len(self.data)

    @property
    def size(self) -> int:
        """Bytes of its IP packet without link header and without the IPv6 fragment header."""
        return len(self.head) - self.l3_off + len(self.data)


def read_fragment(frame: bytes, l3_off: int, *, ingress: bool) -> Fragment:
    """The fragment in a frame whose IP header is at `l3_off`.

    Raises:
        RefusedError: the receiver drops it, or the frame was cut.
    """
    if len(frame) <= l3_off:
        raise RefusedError("cut")
    version = frame[l3_off] >> 4
    if version == 4:
        return _read4(frame, l3_off, ingress)
    if version == 6:
        return _read6(frame, l3_off, ingress)
    raise RefusedError("malformed")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    return ~(int.from_bytes(data, "big") % 0xFFFF) & 0xFFFF


def _read4(frame: bytes, l3_off: int, ingress: bool) -> Fragment:
    if len(frame) < l3_off + IPV4_BYTES:
        raise RefusedError("cut")
    (version_ihl, tos, total, ident, word, _, protocol, _, source, destination) = _IPV4.unpack_from(
        frame, l3_off
    )
    header_len = (version_ihl & 0xF) * 4
    if header_len < IPV4_BYTES or total < header_len or protocol != TCP or not word & (MF | OFFSET):
        raise RefusedError("malformed")
    if len(frame) < l3_off + total:
        raise RefusedError("cut")
    payload = l3_off + header_len
    # A sum of all words of a right header, its checksum included, is 0xffff.
    if int.from_bytes(frame[l3_off:payload], "big") % 0xFFFF:
        raise RefusedError("checksum")
    more = bool(word & MF)
    data = frame[payload : l3_off + total]
    if more:
        data = data[: len(data) & ~7]
    return Fragment(
        (ingress, source + destination, ident),
        source,
        4,
        (word & OFFSET) * 8,
        more,
        frame[:payload],
        l3_off,
        data,
        tos & 3,
        bool(word & DF),
    )


def _read6(frame: bytes, l3_off: int, ingress: bool) -> Fragment:
    if len(frame) < l3_off + IPV6_BYTES:
        raise RefusedError("cut")
    word, payload_len, following, _, source, destination = _IPV6.unpack_from(frame, l3_off)
    end = l3_off + IPV6_BYTES + payload_len
    if not payload_len:
        raise RefusedError("malformed")
    if len(frame) < end:
        raise RefusedError("cut")
    at, names_it = _find_fragment_header(frame, l3_off, end, following)
    following, _, place, ident = _FRAGMENT.unpack_from(frame, at)
    start, more = place & OFFSET6, bool(place & MORE6)
    data = frame[at + FRAGMENT_BYTES : end]
    if not start and not more:
        raise RefusedError("malformed")
    if not start and _lacks_headers(following, data):
        raise RefusedError("first_too_short")
    if start + len(data) > LONGEST or (more and len(data) % 8):
        raise RefusedError("malformed")
    head = frame[:names_it] + bytes([following]) + frame[names_it + 1 : at]
    return Fragment(
        (ingress, source + destination, ident),
        source[:8],
        6,
        start,
        more,
        head,
        l3_off,
        data,
        word >> 20 & 3,
        False,
    )


def _find_fragment_header(frame: bytes, l3_off: int, end: int, following: int) -> tuple[int, int]:
    """Offsets of the fragment header and of the byte that names it as the next header."""
    at, names_it = l3_off + IPV6_BYTES, l3_off + 6
    while following != FRAGMENT:
        if following not in EXTENSIONS or at + 8 > end:
            raise RefusedError("malformed")
        following, names_it, at = frame[at], at, at + _extension_bytes(frame, at, following)
    if at + FRAGMENT_BYTES > end:
        raise RefusedError("malformed")
    return at, names_it


def _extension_bytes(data: bytes, at: int, kind: int) -> int:
    """The length of the extension header at an offset (RFC 8200, 4; RFC 4302, 2.2)."""
    return (data[at + 1] + 2) * 4 if kind == AUTHENTICATION else (data[at + 1] + 1) * 8


def _lacks_headers(following: int, data: bytes) -> bool:
    """Whether a first fragment ends inside the TCP header: Linux 5.11 and newer drop it.

    A fragment that ends inside the extension headers passes (ipv6frag_thdr_truncated).
    """
    at = 0
    while following in EXTENSIONS:
        if at + 2 > len(data):
            return False
        following, at = data[at], at + _extension_bytes(data, at, following)
    return following == TCP and at + TCP_BYTES > len(data)
