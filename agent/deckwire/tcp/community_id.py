"""Community ID v1, seed 0: one name for a TCP connection that other sensors give it too.

The specification stands at github.com/corelight/community-id-spec.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from struct import Struct

VERSION_PREFIX = "1:"
SEED = bytes(2)
TCP_AND_PADDING = b"\x06\x00"
PORTS = Struct("!HH")
MAPPED_PREFIX = bytes(10) + b"\xff\xff"
"""IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2): how maps and samples hold IPv4."""


def community_id(src: bytes, dst: bytes, sport: int, dport: int) -> str:
    """The Community ID of a TCP connection, the same for both of its directions.

    Addresses are 16 bytes; two IPv4-mapped ones stand for IPv4. struct.error for ports beyond 16
    bits.
    """
    if src.startswith(MAPPED_PREFIX) and dst.startswith(MAPPED_PREFIX):
        src, dst = src[len(MAPPED_PREFIX) :], dst[len(MAPPED_PREFIX) :]
    if src > dst or (src == dst and sport > dport):
        src, dst, sport, dport = dst, src, dport, sport
    tuple_bytes = SEED + src + dst + TCP_AND_PADDING + PORTS.pack(sport, dport)
    digest = hashlib.sha1(tuple_bytes, usedforsecurity=False).digest()
    return VERSION_PREFIX + b2a_base64(digest, newline=False).decode("ascii")
