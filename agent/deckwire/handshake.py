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
        """SYN to SYN-ACK: from the tap to the server and back, microseconds rounded down."""
        if self.syn is None or self.synack is None:
            return None
        return max(self.synack.time_ns - self.syn.time_ns, 0) // 1_000

    @property
    def rtt_client_us(self) -> int | None:
        """SYN-ACK to the ACK: from the tap to the client and back, microseconds rounded down."""
        if self.synack is None or self.established_ns is None:
            return None
        return max(self.established_ns - self.synack.time_ns, 0) // 1_000
