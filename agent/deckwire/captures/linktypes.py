"""Convert frames of all supported link types to Ethernet, which is all that the BPF programs read.

Source of the link-layer headers: tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from deckwire.captures.frame import Frame

ETHERNET = 1
RAW = frozenset({12, 14, 101})
"""LINKTYPE_RAW, and the two values of DLT_RAW in older files."""
RAW_IPV4 = 228
RAW_IPV6 = 229
LOOPBACK = frozenset({0, 108})
"""LINKTYPE_NULL and LINKTYPE_LOOP: an address family in host byte order, or big-endian."""
COOKED = 113
COOKED2 = 276
"""LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2."""

NO_ADDRESSES = bytes(12)
IPV4 = bytes.fromhex("0800")
IPV6 = bytes.fromhex("86dd")
ETHERNET_BYTES, FAMILY_BYTES, COOKED_BYTES, COOKED2_BYTES = 14, 4, 16, 20

FAMILIES = {2: IPV4, 10: IPV6, 24: IPV6, 28: IPV6, 30: IPV6}
"""AF_INET everywhere; AF_INET6 on Linux, NetBSD and OpenBSD, FreeBSD, macOS."""
LEAST_ETHERTYPE = 0x0600
"""Smaller values are a length or a protocol number of Linux (IEEE 802.3, 3.2.6)."""
NOT_ETHERTYPES = frozenset({770, 778, 803, 824})
"""ARPHRD_ values whose protocol field is no EtherType: frame relay, GRE, radiotap, netlink."""


def ethernet(frame: Frame) -> bytes | None:
    """Return the frame with an Ethernet header; its addresses are zero if the link has none.

    Returns None if the link type is not supported, or if its header is cut or has no EtherType.
    """
    data, kind = frame.data, frame.link_type
    if kind == ETHERNET:
        return data if len(data) >= ETHERNET_BYTES else None
    header = 0
    if kind in RAW:
        protocol = _version(data)
    elif kind == RAW_IPV4:
        protocol = IPV4
    elif kind == RAW_IPV6:
        protocol = IPV6
    elif kind in LOOPBACK:
        header, protocol = FAMILY_BYTES, _family(data[:FAMILY_BYTES])
    elif kind == COOKED:
        header, protocol = COOKED_BYTES, _cooked(data[2:4], data[14:16])
    elif kind == COOKED2:
        header, protocol = COOKED2_BYTES, _cooked(data[8:10], data[0:2])
    else:
        return None
    if not protocol or len(data) <= header:
        return None
    # After a VLAN protocol in a cooked header comes the tag, as in Ethernet.
    return NO_ADDRESSES + protocol + data[header:]


def _version(data: bytes) -> bytes | None:
    return {4: IPV4, 6: IPV6}.get(data[0] >> 4) if data else None


def _family(field: bytes) -> bytes | None:
    little = FAMILIES.get(int.from_bytes(field, "little"))
    return little or FAMILIES.get(int.from_bytes(field, "big"))


def _cooked(device: bytes, protocol: bytes) -> bytes | None:
    if int.from_bytes(device, "big") in NOT_ETHERTYPES:
        return None
    return protocol if int.from_bytes(protocol, "big") >= LEAST_ETHERTYPE else None
