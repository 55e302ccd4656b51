"""The 4-tuple of a connection and what the kernel aggregated of it."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct
from typing import NamedTuple

from deckwire.abi.hashes import absorb
from deckwire.deckies import MAPPED_PREFIX
from deckwire.limits import TEXT_CACHE

_KEY = Struct(">16s16sHH")
"""struct flow_key: both addresses, both ports as they stand on the wire."""
_WORDS = Struct("<8I")
_ID = Struct("<Q4sI")
"""struct flow_id."""


class Ends(NamedTuple):
    """A connection's two ends, by who opened it; addresses are 16 bytes, IPv4 as v4-mapped."""

    client: bytes
    client_port: int
    server: bytes
    server_port: int


class SideRecord(NamedTuple):
    """What one end sent."""

    packets: int
    bytes: int
    """TCP payload, by the IP lengths."""
    retransmits: int


class FlowRecord(NamedTuple):
    """A connection as the kernel counted it. Times are kernel nanoseconds."""

    born_ns: int
    first_ns: int
    last_ns: int
    min_iat_ns: int | None
    """Least time between two consecutive packets; None if no such time was measured."""
    max_iat_ns: int | None
    """The greatest; None with `min_iat_ns`."""
    close: str
    """fin, rst, idle, evicted, removed or shutdown; "" while it is open."""
    midstream: bool
    """Begun before we watched."""
    end_sent: bool
    """Its end has reached the ring."""
    client: int
    """The end that opened it: 0, 1 or abi.CLIENT_UNKNOWN."""
    sides: tuple[SideRecord, SideRecord]
    """By end."""
    rtt_client_us: int | None
    """SYN-ACK to the final ACK; None if either was not seen."""
    rtt_server_us: int | None
    """SYN to SYN-ACK; None if either was not seen."""
    rtt_min_us: int | None
    """Least from data of the server to the client's ACK of it; None if none was measured."""
    timed: bool = True
    """Its times are of one clock; False if the clock of a capture jumped while it lived."""

    def without_times(self) -> FlowRecord:
        """The same, of a connection during which the clock jumped: no interval of it is known."""
        return self._replace(
            timed=False,
            min_iat_ns=None,
            max_iat_ns=None,
            rtt_client_us=None,
            rtt_server_us=None,
            rtt_min_us=None,
        )


def ends(key: bytes, client: int) -> Ends:
    """The ends of a flow key (struct flow_key) whose end `client`, 0 or 1, opened it."""
    low, high, low_port, high_port = _KEY.unpack(key)
    if client:
        return Ends(high, high_port, low, low_port)
    return Ends(low, low_port, high, high_port)


def flow_id(key: bytes, seed: int) -> bytes:
    """What the kernel's table of connections goes by: make_id() of bpf/hash.h."""
    a0, a1, a2, a3, b0, b1, b2, b3 = _WORDS.unpack_from(key)
    ports = key[_WORDS.size :]
    if key.startswith(MAPPED_PREFIX):
        return _ID.pack(a3 << 32 | b3, ports, 4)
    ends = seed
    for word in (a0 << 32 | a1, a2 << 32 | a3, b0 << 32 | b1, b2 << 32 | b3):
        ends = absorb(ends, word)
    return _ID.pack(ends, ports, 6)


@lru_cache(maxsize=TEXT_CACHE)
def address_text(packed: bytes) -> str:
    """The usual text of a 16-byte address; IPv4 where it is v4-mapped."""
    if packed.startswith(MAPPED_PREFIX):
        return inet_ntop(AF_INET, packed[len(MAPPED_PREFIX) :])
    text = inet_ntop(AF_INET6, packed)
    # The C library writes ::192.0.2.1 where RFC 5952 and Python want ::c000:201.
    return text if "." not in text else str(IPv6Address(packed))
