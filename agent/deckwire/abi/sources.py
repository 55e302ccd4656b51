"""What the kernel side has recorded of one source: which probes it sent, and to what."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class ProbeKind(IntEnum):
    """What a probe is, by its packet. Bit numbers of `Target.kinds`."""

    SYN = 0
    CONNECT = 1
    """A handshake that was completed."""
    FIN = 2
    NULL = 3
    XMAS = 4
    MAIMON = 5
    ACK = 6
    WINDOW = 7
    """Never set: the packets of a window scan are those of an ACK scan."""
    SYN_ACK = 8
    RST = 9
    UDP = 10
    ICMP_ECHO = 11
    ICMP_TIMESTAMP = 12
    ICMP_OTHER = 13
    ICMP6 = 14
    ARP = 15
    """An ARP request or a neighbour solicitation."""
    SCTP = 16
    OTHER = 17
    """Another protocol over IP."""
    MALFORMED = 18


REFUSED_SHIFT = 33
"""The kernel keeps the time of a refusal in units of 2^33 ns after the first touch."""


class Answer(IntEnum):
    """What the decky answered. Bit numbers of `Target.answers`; no bit: nothing was seen."""

    OPEN = 0
    """A SYN-ACK, or data of another protocol."""
    CLOSED = 1
    """An RST, or an ICMP message that the port cannot be reached."""
    REFUSED = 2
    """The RST that a SYN to a closed port gets. That of a wrong ACK looks different."""
    TTL_64 = 3
    """Over IPv4, the TTL of that RST is 64 at most."""
    TTL_128 = 4
    """It is 65 to 128."""
    TTL_255 = 5
    """It is higher."""
    NO_ID = 6
    """Over IPv4, the IP identification of that RST is 0."""
    ID = 7
    """It is another number."""


class Target(NamedTuple):
    """One decky, protocol and port that a source has touched."""

    decky: bytes
    """Its address in 16 bytes; IPv4 is mapped."""
    protocol: int
    """The number of the protocol over IP; 0 for ARP and neighbour solicitations, 255 for packets
    whose IP header is malformed."""
    port: int
    """0 where the protocol has no ports."""
    kinds: int
    answers: int
    first_ns: int
    """The kernel's time of the first probe."""
    refused_ns: int = 0
    """The latest refusal came then or later; 0 if there was none."""


class Glance(NamedTuple):
    """What is known of a source that has changed, before its record is read."""

    address: bytes
    """In 16 bytes; IPv4 is mapped."""
    proven: bool
    """It completed a handshake."""
    strong: bool
    """It did, or has touched more targets than a forged packet or two."""
    is_news: bool
    """It has shown more than further probes of a known kind to known targets."""


class Source(NamedTuple):
    """One source, as it stands when the table is read.

    Counts only grow while it stays. With another `first_ns` they have begun again: the kernel had
    given its slot to another source meanwhile.
    """

    address: bytes
    """In 16 bytes; IPv4 is mapped."""
    mac: bytes
    """Of the frame that came last; empty if unknown."""
    first_ns: int
    last_ns: int
    probes: dict[ProbeKind, int]
    """How many probes of each kind, those of targets that are not kept too."""
    proven: bool
    """It completed a handshake, so the address is not forged."""
    targets: tuple[Target, ...]
    """In the order in which they were touched, as far as they are kept."""
    targets_lost: int
    """Touches of targets for which there was no room; 0: `targets` is exact."""
    isns: tuple[int, ...] = ()
    """Initial sequence numbers of its last SYNs, eight at most, the latest last."""
    ip_ids: tuple[int, ...] = ()
    """IP identifications of the same SYNs; 0 over IPv6."""
