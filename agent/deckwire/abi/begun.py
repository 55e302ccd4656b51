"""What the kernel side has recorded of a decky that sends datagrams on its own."""

from __future__ import annotations

from typing import NamedTuple


class Begun(NamedTuple):
    """Datagrams of one decky to one port of one peer, since they were read last."""

    decky: bytes
    """Its address in 16 bytes; IPv4 is mapped."""
    peer: bytes
    protocol: int
    """The number of the protocol over IP: UDP, SCTP, ICMP or ICMPv6."""
    decky_port: int
    """Of the first one; 0 where the protocol has no ports."""
    port: int
    link: int
    """Of the first one: the MAC address in the lower 48 bits, above them the outermost VLAN."""
    time_ns: int
    """The kernel's time of the first one, or of the last one if the first was read before."""
    last_ns: int
    datagrams: int
    """How many there were."""
