"""How a connection was opened: both openings and the times between them."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.opening import Opening


class Handshake(NamedTuple):
    """What is known of a three-way handshake; every part may be missing."""

    syn: Opening | None = None
    synack: Opening | None = None
    established_ns: int | None = None
    """Kernel time of the client's ACK of the SYN-ACK."""
    syn_retransmits: int = 0
    synack_retransmits: int = 0

    @property
    def rtt_server_us(self) -> int | None:
        """SYN to SYN-ACK: from the tap to the server and back, in whole microseconds."""
        if self.syn is None or self.synack is None:
            return None
        return _microseconds(self.syn.time_ns, self.synack.time_ns)

    @property
    def rtt_client_us(self) -> int | None:
        """SYN-ACK to the ACK: from the tap to the client and back, in whole microseconds."""
        if self.synack is None or self.established_ns is None:
            return None
        return _microseconds(self.synack.time_ns, self.established_ns)


def _microseconds(start_ns: int, end_ns: int) -> int:
    """The interval as every JA4L tool counts it: between stamps of whole microseconds."""
    return max(end_ns // 1_000 - start_ns // 1_000, 0)
