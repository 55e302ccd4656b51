"""The ends of a connection, read from its flow key (struct flow_key)."""

from __future__ import annotations

from socket import ntohs

from deckwire.abi.structs import ENDS
from deckwire.tcp.flow import Ends


def ends(key: bytes, client: int) -> Ends:
    """The ends of a flow key; `client`, 0 or 1, is the end that opened the connection."""
    low, high, low_port, high_port = ENDS.unpack(key)
    if client:
        return Ends(high, ntohs(high_port), low, ntohs(low_port))
    return Ends(low, ntohs(low_port), high, ntohs(high_port))
