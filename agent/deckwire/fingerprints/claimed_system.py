"""The system that a decky plays, and what of its SYN-ACK and RST packets contradicts it.

What is not known contradicts nothing. Neither does what depends on the client or on a setting that
is common on the system.
"""

from __future__ import annotations

import re
from functools import lru_cache

from deckwire.fingerprints.identity import ServerIdentity
from deckwire.fingerprints.os_guess import UNKNOWN
from deckwire.fingerprints.p0f import MAX_DISTANCE
from deckwire.tcp import options as tcp_options
from deckwire.tcp.syn_packet import SynPacket

_EMBEDDED = "embedded"
_NAMES = {
    "linux": r"[a-z]*linux|android|ubuntu|debian|raspbian|centos|fedora|red ?hat|rhel|rocky"
    r"|[a-z]*suse|alpine|arch|gentoo|kali|openwrt|synology|proxmox",
    "windows": r"windows|win(?:nt|32|64|xp|7|8|10|11|20\d\d)?",
    "macos_ios": r"mac ?os(?: ?x)?|os ?x|darwin|iphone|ipad|ios",
    "freebsd": r"freebsd|pfsense|opnsense",
    "openbsd": r"openbsd",
    _EMBEDDED: r"embedded|lwip|cisco.*|nintendo|blackberry|printer|plc|router|switch",
}
"""Words of a registry for a system, by the words of os_guess."""
_FAMILIES = {
    family: re.compile(rf"(?<![a-z0-9])(?:{names})(?![a-z])", re.IGNORECASE)
    for family, names in _NAMES.items()
}
_TTLS = {"linux": 64, "windows": 128, "macos_ios": 64, "freebsd": 64, "openbsd": 64}
"""Initial TTL of IPv4. That of IPv6 may be a router's choice (RFC 4861, 6.3.4)."""
_UNLIKE_EMBEDDED = ("windows", "macos_ios")
"""Many appliances are Linux or a BSD."""
_INFORMATIVE = (tcp_options.WSCALE, tcp_options.SACK_PERMITTED, tcp_options.TIMESTAMPS)
"""Options that a system puts into an order of its own."""


@lru_cache(maxsize=256)
def family_of(system: str) -> str | None:
    """The family of a system that a registry names, as os_guess has it; None if it is unknown."""
    found = [family for family, names in _FAMILIES.items() if names.search(system)]
    if _EMBEDDED in found and "macos_ios" in found and "cisco" in system.lower():
        # The iOS of Cisco is another system.
        found.remove("macos_ios")
    return found[0] if len(found) == 1 else None


def system_fault(family: str, synack: SynPacket, identity: ServerIdentity) -> str | None:
    """What shows that another system sent this SYN-ACK packet; None if nothing does.

    `identity` is that of the packet. An inexact match counts only for Linux, whose order of options
    no other system has: its TTL and its window are settings.
    """
    seen = identity.family
    if seen in (UNKNOWN, family) or not (identity.exact or seen == "linux"):
        return None
    if family == _EMBEDDED and seen not in _UNLIKE_EMBEDDED:
        return None
    layout = tcp_options.read(synack.options).layout
    if sum(kind in layout for kind in _INFORMATIVE) < 2:
        return None
    return f"its SYN-ACK is that of {identity.os}: {identity.p0f_sig}"


def ttl_fault(family: str, synack: SynPacket) -> str | None:
    """What shows that the TTL is not that of the system; None if it can be."""
    expected = _TTLS.get(family)
    if expected is None or synack.ip_version != 4:
        return None
    if 0 <= expected - synack.ttl <= MAX_DISTANCE:
        return None
    return f"the TTL of its SYN-ACK is {synack.ttl}, and {family} begins with {expected}"


def refusal_ttl_fault(family: str, initial: int) -> str | None:
    """What shows that the TTL of a decky's RST is not that of the system; None if it can be.

    `initial` is 64, 128 or 255: the lowest usual one from which it can come.
    """
    expected = _TTLS.get(family)
    if expected is None or initial == expected:
        return None
    return f"the TTL of its RST begins with {initial}, and {family} begins with {expected}"


def counts_ids(family: str) -> bool:
    """Whether the system counts the IP identifications of all packets over IPv4."""
    return family == "windows"


def has_zero_id(family: str, synack: SynPacket) -> bool | None:
    """Whether the IP identification is 0 where the system counts; None if that says nothing."""
    if not counts_ids(family) or synack.ip_version != 4 or not synack.df:
        return None
    return synack.ip_id == 0
