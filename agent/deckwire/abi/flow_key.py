"""The ends of a connection, read from its flow key (struct flow_key)."""

from __future__ import annotations

from socket import htons, ntohs

from deckwire.abi.structs import ENDS
from deckwire.tcp.flow import Ends


def flow_key(source: bytes, source_port: int, destination: bytes, destination_port: int) -> bytes:
    """The flow key of a packet, as make_key() of bpf/flow_key.h makes it: the same both ways.

    End 0 has the lower port, or the lower address, read backwards, if the ports are equal.
    """
    sender = source_port, source[::-1], source
    receiver = destination_port, destination[::-1], destination
    (low_port, _, low), (high_port, _, high) = sorted((sender, receiver))
    return ENDS.pack(low, high, htons(low_port), htons(high_port))


def ends(key: bytes, client: int) -> Ends:
    """The ends of a flow key; `client`, 0 or 1, is the end that opened the connection."""
    low, high, low_port, high_port = ENDS.unpack(key)
    first, second = (low, ntohs(low_port)), (high, ntohs(high_port))
    # This makes an Ends in half the time of a call. Each connection has some.
    return tuple.__new__(Ends, second + first if client else first + second)
