"""How a connection was opened: the SYN and SYN-ACK packets and the times between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from deckwire.tcp.syn_packet import ACK, SynPacket


# Not frozen: that would make each one slower to create, and every connection has one.
@dataclass(slots=True)
class Handshake:
    """The parts of a three-way handshake that were seen; each may be missing."""

    syn: SynPacket | None = None
    synack: SynPacket | None = None
    established_ns: int | None = None
    """Kernel time of the client's ACK of the SYN-ACK; None also if that came in IP fragments."""
    syn_retransmits: int = 0
    synack_retransmits: int = 0

    rtt_server_ns: int | None = field(init=False, default=None)
    """SYN to SYN-ACK; None if one was not seen, or if the second is stamped before the first."""
    rtt_server_us: int | None = field(init=False, default=None)
    """From the SYN to the SYN-ACK, in whole microseconds: from the tap to the server and back."""
    rtt_client_us: int | None = field(init=False, default=None)
    """From the SYN-ACK to the ACK, in whole microseconds: from the tap to the client and back."""

    def __post_init__(self) -> None:
        syn, synack, established_ns = self.syn, self.synack, self.established_ns
        if synack is None or synack.reassembled:
            return
        # Intervals are between times cut to whole microseconds, as JA4L tools count them.
        answered_ns = synack.time_ns
        if syn is not None and not syn.reassembled and syn.time_ns <= answered_ns:
            self.rtt_server_ns = answered_ns - syn.time_ns
            self.rtt_server_us = answered_ns // 1_000 - syn.time_ns // 1_000
        if established_ns is not None and answered_ns <= established_ns:
            self.rtt_client_us = established_ns // 1_000 - answered_ns // 1_000

    @property
    def syn_data_taken(self) -> int:
        """Bytes of the SYN's payload that the server took (RFC 7413)."""
        if self.syn is None or self.synack is None:
            return 0
        return min((self.synack.ack - self.syn.seq - 1) & 0xFFFF_FFFF, self.syn.payload_len)

    @property
    def whole_synack(self) -> SynPacket | None:
        """The SYN-ACK packet with all its options; None if a bare SYN took its place."""
        synack = self.synack
        if synack is None or synack.options_cut or not synack.flags & ACK:
            return None
        return synack

    def first_seq(self, *, of_client: bool) -> int | None:
        """Sequence number of an end's first byte; None if no packet shows it."""
        if not of_client:
            return None if self.synack is None else (self.synack.seq + 1) & 0xFFFF_FFFF
        if self.syn is not None:
            return (self.syn.seq + 1) & 0xFFFF_FFFF
        return None if self.synack is None else self.synack.ack

    def keep_even(self, even: Callable[[int, int], bool]) -> Handshake:
        """Forget the times during which the clock did not run evenly; the handshake itself."""
        if self.synack is None:
            return self
        if self.syn is not None and not even(self.syn.time_ns, self.synack.time_ns):
            self.rtt_server_ns = self.rtt_server_us = None
        if self.established_ns is not None and not even(self.synack.time_ns, self.established_ns):
            self.rtt_client_us = None
        return self
