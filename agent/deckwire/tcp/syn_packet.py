"""The fields of one SYN or SYN-ACK packet, from which every TCP fingerprint is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

_IP_HEADER_BYTES = {4: 20, 6: 40}
_TCP_HEADER_BYTES = 20

# Bits of SynPacket.flags, the low twelve bits of the 16-bit data-offset word (RFC 9293, 3.1).
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, NS = (1 << n for n in range(9))


class Sequences(NamedTuple):
    """How the source of a SYN chooses numbers, by its last SYNs of which eight count at most.

    A class is ``zero``, ``constant``, ``incremental`` (by 1 to 4,096) or ``random``; "" if it is
    not known: of fewer than four SYNs, and of the IP identification on IPv6.
    """

    ipid_class: str
    ipid_samples: int
    """How many SYNs show it."""
    isn_class: str
    """Of the initial sequence number."""
    isn_samples: int


class Link(NamedTuple):
    """How a SYN came to the interface of the deckies."""

    mac: int
    """The sender's MAC address, its first byte lowest; 0 if the link has none."""
    vlan: int
    """The outermost VLAN; 0 without a tag."""

    @property
    def mac_text(self) -> str:
        """The MAC address as six bytes in hexadecimal; "" if the link has none."""
        return self.mac.to_bytes(6, "little").hex(":") if self.mac else ""


# Not frozen: that would triple the cost of creating one, and every connection has some.
@dataclass(slots=True, unsafe_hash=True)
class SynPacket:
    """A SYN or SYN-ACK as it was on the wire, with the kernel's time.

    A hostile peer chooses the values. Only their widths are guaranteed.
    """

    time_ns: int
    """Kernel time of the frame (CLOCK_MONOTONIC, ns); in replay the capture's clock."""
    ip_version: int
    """4 or 6."""
    ttl: int
    """IPv4 TTL or IPv6 hop limit."""
    tos: int
    """IPv4 TOS or IPv6 traffic class, eight bits: DSCP in the upper six, ECN in the lower two."""
    ip_id: int
    """IPv4 identification; 0 on IPv6."""
    df: bool
    """IPv4 don't fragment; False on IPv6."""
    ip_reserved: bool
    """IPv4 reserved ("evil") flag bit set."""
    ip_options_len: int
    """Bytes of IPv4 options, or of IPv6 extension headers."""
    flow_label: int
    """IPv6 flow label, 20 bits; 0 on IPv4."""
    seq: int
    ack: int
    flags: int
    """FIN..NS and the reserved bits, as in the header's low twelve bits."""
    window: int
    """The raw 16-bit field."""
    urgent: int
    """Urgent pointer, 16 bits."""
    options: bytes
    """TCP options as they were on the wire, 0 to 40 bytes."""
    payload_len: int
    """Bytes of TCP payload in the segment, by the IP length."""
    options_cut: bool = False
    """The capture ends before the options do, so nothing is known of them."""
    reassembled: bool = False
    """It came in IP fragments. `time_ns` is the last one's, and no interval is taken from it."""
    sequences: Sequences | None = None
    """What it shows together with SYNs before it; None if nothing, or nobody asked for it."""
    link: Link | None = field(default=None, compare=False)
    """How it came here; None if that is not known. The kernel's table does not keep it."""

    @property
    def total_len(self) -> int:
        """Bytes of its IP packet, by its headers."""
        header = _IP_HEADER_BYTES[self.ip_version] + self.ip_options_len
        return header + _TCP_HEADER_BYTES + len(self.options) + self.payload_len
