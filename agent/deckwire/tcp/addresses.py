"""IP addresses in the form that the kernel side and the agent keep: 16 bytes, IPv4 v4-mapped."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop

from deckwire.limits import TEXT_CACHE

MAPPED_PREFIX = bytes(10) + b"\xff\xff"
"""The first twelve bytes of an IPv4 address (RFC 4291, 2.5.5.2)."""


@lru_cache(maxsize=TEXT_CACHE)
def address_text(packed: bytes) -> str:
    """The usual text of a 16-byte address (RFC 5952); a v4-mapped one is written as IPv4."""
    if packed.startswith(MAPPED_PREFIX):
        return inet_ntop(AF_INET, packed[len(MAPPED_PREFIX) :])
    text = inet_ntop(AF_INET6, packed)
    # The C library writes ::192.0.2.1; RFC 5952 and Python write ::c000:201.
    return text if "." not in text else str(IPv6Address(packed))
