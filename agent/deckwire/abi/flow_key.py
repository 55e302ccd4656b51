"""The ends of a connection, read from its flow key (struct flow_key)."""

from __future__ import annotations

from socket import htons, ntohs

from deckwire.abi.structs import ENDS
from deckwire.tcp.flow import Ends

_MAPPED = bytes(10) + b"\xff\xff"
"""What precedes an IPv4 address in the 16 bytes of a key (RFC 4291, 2.5.5.2)."""


def flow_key(source: bytes, source_port: int, destination: bytes, destination_port: int) -> bytes:
    """The flow key of a packet, as make_key() of bpf/flow_key.h makes it: the same both ways.

    End 0 has the lower port, or the lower address, read backwards, if the ports are equal.
    """
    sender = source_port, source[::-1], source
    receiver = destination_port, destination[::-1], destination
    (low_port, _, low), (high_port, _, high) = sorted((sender, receiver))
    return ENDS.pack(low, high, htons(low_port), htons(high_port))


def portless_key(source: bytes, destination: bytes) -> tuple[bytes, int]:
    """The flow key of a packet without ports, and the end, 0 or 1, that is its source.

    Addresses have 4 or 16 bytes.
    """
    if len(source) == 4:
        source, destination = _MAPPED + source, _MAPPED + destination
    return flow_key(source, 0, destination, 0), int(source[::-1] > destination[::-1])


def ends(key: bytes, client: int) -> Ends:
    """The ends of a flow key; `client`, 0 or 1, is the end that opened the connection."""
    low, high, low_port, high_port = ENDS.unpack(key)
    if client:
        return Ends(high, ntohs(high_port), low, ntohs(low_port))
    return Ends(low, ntohs(low_port), high, ntohs(high_port))
