"""Community ID v1, seed 0: a name of a connection that other sensors give it too.

Source: github.com/corelight/community-id-spec.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from struct import Struct
from typing import Final

from deckwire.tcp.addresses import MAPPED_PREFIX

VERSION_PREFIX: Final = "1:"
TCP: Final = 6
_TAIL: Final = Struct("!BxHH")
"""Protocol and ports."""
_PREFIX_BYTES: Final = len(MAPPED_PREFIX)
_BEGUN: Final = hashlib.sha1(bytes(2), usedforsecurity=False)
"""The hash after the seed: to copy it is quicker than to make one."""


def community_id(src: bytes, dst: bytes, sport: int, dport: int, protocol: int = TCP) -> str:
    """The Community ID of a connection, the same for both of its directions.

    Addresses are 16 bytes. Two v4-mapped ones are taken as IPv4. The protocol has ports: TCP, UDP
    or SCTP.

    Raises:
        struct.error: a port has more than 16 bits.
    """
    if src[:_PREFIX_BYTES] == MAPPED_PREFIX == dst[:_PREFIX_BYTES]:
        src, dst = src[_PREFIX_BYTES:], dst[_PREFIX_BYTES:]
    if src > dst or (src == dst and sport > dport):
        src, dst, sport, dport = dst, src, dport, sport
    hashed = _BEGUN.copy()
    hashed.update(src + dst + _TAIL.pack(protocol, sport, dport))
    return VERSION_PREFIX + b2a_base64(hashed.digest(), newline=False).decode("ascii")
