"""The IP addresses of a frame, as the programs read them: whose frame is it?"""

from __future__ import annotations

from deckwire.captures.segments import (
    ETHERNET_BYTES,
    IPV4,
    IPV4_BYTES,
    IPV6,
    IPV6_BYTES,
    TAG_BYTES,
    TAGS,
    U16,
)
from deckwire.tcp.addresses import MAPPED_PREFIX

MOST_TAGS = 368
"""VLAN tags that are walked; bpf/limits.h has the same (MAX_PRIORITY_TAGS)."""


def addresses(ethernet_frame: bytes) -> tuple[bytes, bytes] | None:
    """Source and destination, 16 bytes each, IPv4 as v4-mapped; None if it is no IP packet."""
    at = ETHERNET_BYTES
    if len(ethernet_frame) < at:
        return None
    (protocol,) = U16.unpack_from(ethernet_frame, at - 2)
    for _ in range(MOST_TAGS):
        if protocol not in TAGS:
            break
        at += TAG_BYTES
        if len(ethernet_frame) < at:
            return None
        (protocol,) = U16.unpack_from(ethernet_frame, at - 2)
    if protocol == IPV4 and len(ethernet_frame) >= at + IPV4_BYTES:
        source, destination = ethernet_frame[at + 12 : at + 16], ethernet_frame[at + 16 : at + 20]
        return MAPPED_PREFIX + source, MAPPED_PREFIX + destination
    if protocol == IPV6 and len(ethernet_frame) >= at + IPV6_BYTES:
        return ethernet_frame[at + 8 : at + 24], ethernet_frame[at + 24 : at + 40]
    return None
