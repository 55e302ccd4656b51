"""Community ID v1, seed 0: a name of a connection that other sensors give it too.

Source: github.com/corelight/community-id-spec.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from struct import Struct

from deckwire.tcp.addresses import MAPPED_PREFIX

VERSION_PREFIX = "1:"
SEED = bytes(2)
TCP = 6
PORTS = Struct("!HH")


def community_id(src: bytes, dst: bytes, sport: int, dport: int, protocol: int = TCP) -> str:
    """The Community ID of a connection, the same for both of its directions.

    Addresses are 16 bytes. Two v4-mapped ones are taken as IPv4. The protocol has ports: TCP, UDP
    or SCTP.

    Raises:
        struct.error: a port has more than 16 bits.
    """
    if src.startswith(MAPPED_PREFIX) and dst.startswith(MAPPED_PREFIX):
        src, dst = src[len(MAPPED_PREFIX) :], dst[len(MAPPED_PREFIX) :]
    if src > dst or (src == dst and sport > dport):
        src, dst, sport, dport = dst, src, dport, sport
    tuple_bytes = SEED + src + dst + bytes((protocol, 0)) + PORTS.pack(sport, dport)
    digest = hashlib.sha1(tuple_bytes, usedforsecurity=False).digest()
    return VERSION_PREFIX + b2a_base64(digest, newline=False).decode("ascii")
