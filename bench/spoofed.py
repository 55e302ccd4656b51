"""Endless frames from spoofed sources, with correct checksums, the same at each run.

IPv4 and IPv6 take turns. Each frame has a source of its own: no node of the lab has an address in
10.0.0.0/8 or 2001:db8:f000::/36.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from socket import AF_INET, AF_INET6, inet_pton
from struct import pack

from bench.packets import link_address
from deckwire.lab import Lab

GHOSTS = "198.18.9.9", "2001:db8::9:9"
"""Deckies whose addresses no node has, of IPv4 and IPv6."""
SYN, PSH_ACK = 0x02, 0x18
TCP = 6
LINUX_OPTIONS = bytes.fromhex("020405b40402080a000010010000000001030307")
"""The options of Linux: MSS, SACK, timestamps, NOP, window scale."""

_ETH_IPV4, _ETH_IPV6, _ETH_ARP = 0x0800, 0x86DD, 0x0806
_ICMP, _UDP, _ICMP6 = 1, 17, 58
_ECHO, _ECHO6, _SOLICITATION = 8, 128, 135
_PORT = 443
_HOPS, _LINK_HOPS = 64, 255
"""The latter is that of neighbour discovery (RFC 4861, 7.1.1)."""
_IPV4_BYTES = 4

Segment = tuple[int, bytes, bytes]
"""Flags, options and payload of a TCP segment."""
Over = Callable[[bytes, bytes, random.Random], tuple[int, bytes]]
"""Makes what is sent over IP from a source to a server: its protocol and its bytes."""


def frames_of(lab: Lab, make: Callable[[], Segment], v4: str, v6: str) -> Iterator[bytes]:
    """TCP segments to the port of the deckies."""

    def segment(source: bytes, server: bytes, chosen: random.Random) -> tuple[int, bytes]:
        flags, options, payload = make()
        numbers = chosen.randbytes(10)
        sport = 1_024 + int.from_bytes(numbers[:2]) % 60_000
        ack = numbers[6:] if flags != SYN else bytes(4)
        ends = pack("!HH4s4s", sport, _PORT, numbers[2:6], ack)
        return TCP, tcp(source, server, ends, flags, options, payload)

    return packets(lab, segment, v4, v6)


def packets(lab: Lab, over: Over, v4: str, v6: str) -> Iterator[bytes]:
    """Packets to these two addresses."""
    link = link_address(lab, lab.deckies[0]) + link_address(lab, lab.client)
    server4, server6 = inet_pton(AF_INET, v4), inet_pton(AF_INET6, v6)
    chosen = random.Random(1)
    while True:
        for source, server in ((_source4(chosen), server4), (_source6(chosen), server6)):
            yield packet(link, source, server, *over(source, server, chosen))


def resolutions(lab: Lab, v4: str, v6: str) -> Iterator[bytes]:
    """ARP requests for one address, and neighbour solicitations for the other."""
    own = link_address(lab, lab.client)
    target4, target6 = inet_pton(AF_INET, v4), inet_pton(AF_INET6, v6)
    group = inet_pton(AF_INET6, "ff02::1:ff00:0")[:13] + target6[13:]
    chosen = random.Random(1)
    while True:
        request = pack("!HHBBH", 1, _ETH_IPV4, 6, 4, 1) + own + _source4(chosen)
        yield b"\xff" * 6 + own + pack("!H", _ETH_ARP) + request + bytes(6) + target4
        source = _source6(chosen)
        body = bytes(4) + target6 + b"\x01\x01" + own
        message = _icmp6(source, group, _SOLICITATION, body)
        yield packet(
            b"\x33\x33" + group[12:] + own, source, group, _ICMP6, message, hops=_LINK_HOPS
        )


def datagram(source: bytes, server: bytes, chosen: random.Random) -> tuple[int, bytes]:
    """A UDP datagram to a port that nobody listens on."""
    payload = chosen.randbytes(16)
    sport, dport = 1_024 + chosen.randrange(60_000), 1 + chosen.randrange(1_000)
    head = pack("!HHH", sport, dport, 8 + len(payload))
    check = _checksum(_pseudo(source, server, _UDP, 8 + len(payload)) + head + payload)
    # 0 is written as 65,535, because it means that there is no checksum (RFC 768).
    return _UDP, head + (b"\xff\xff" if check == bytes(2) else check) + payload


def echo(source: bytes, server: bytes, chosen: random.Random) -> tuple[int, bytes]:
    """An ICMP echo request."""
    body = chosen.randbytes(4) + bytes(16)
    if len(source) != _IPV4_BYTES:
        return _ICMP6, _icmp6(source, server, _ECHO6, body)
    head = bytes((_ECHO, 0))
    return _ICMP, head + _checksum(head + bytes(2) + body) + body


def packet(
    link: bytes, source: bytes, server: bytes, protocol: int, payload: bytes, hops: int = _HOPS
) -> bytes:
    """A frame with an IP packet; `link` has both MAC addresses."""
    if len(source) != _IPV4_BYTES:
        head = pack("!IHBB", 6 << 28, len(payload), protocol, hops)
        return b"".join((link, pack("!H", _ETH_IPV6), head, source, server, payload))
    head = pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, hops, protocol, 0)
    check = _checksum(head + source + server)
    return b"".join((link, pack("!H", _ETH_IPV4), head[:10], check, source, server, payload))


def tcp(
    source: bytes,
    server: bytes,
    ends: bytes,
    flags: int,
    options: bytes = b"",
    payload: bytes = b"",
) -> bytes:
    """A TCP segment; `ends` are its ports, sequence number and acknowledgement."""
    words = (20 + len(options)) // 4 << 12 | flags
    head = ends + pack("!HHHH", words, 64_240, 0, 0)
    segment = b"".join((head, options, payload))
    check = _checksum(_pseudo(source, server, TCP, len(segment)) + segment)
    return segment[:16] + check + segment[18:]


def _source4(chosen: random.Random) -> bytes:
    return b"\x0a" + chosen.randbytes(3)


def _source6(chosen: random.Random) -> bytes:
    return b"\x20\x01\x0d\xb8\xf0" + chosen.randbytes(11)


def _icmp6(source: bytes, server: bytes, kind: int, body: bytes) -> bytes:
    head = bytes((kind, 0))
    pseudo = _pseudo(source, server, _ICMP6, 4 + len(body))
    return head + _checksum(pseudo + head + bytes(2) + body) + body


def _pseudo(source: bytes, server: bytes, protocol: int, size: int) -> bytes:
    """What checksums take in of the IP header; the order makes no difference to them."""
    return source + server + pack("!HH", protocol, size)


def _checksum(data: bytes) -> bytes:
    """RFC 1071: the sum of words in ones' complement is the remainder by 65,535."""
    total = int.from_bytes(data + b"\0" * (len(data) % 2)) % 0xFFFF
    return (0xFFFF - total).to_bytes(2)
