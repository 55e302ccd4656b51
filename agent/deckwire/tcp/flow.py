"""The 4-tuple of a connection, and its figures as the kernel side counted them."""

from __future__ import annotations

from typing import NamedTuple


class Ends(NamedTuple):
    """The two ends of a connection: the client opened it. Addresses are 16 bytes, v4-mapped."""

    client: bytes
    client_port: int
    server: bytes
    server_port: int


class SideRecord(NamedTuple):
    """The figures of what one end sent."""

    packets: int
    bytes: int
    """TCP payload, by the IP lengths; retransmissions count."""
    retransmits: int
    accepted: int | None = None
    """Payload bytes that the other end's TCP has acknowledged; None if that is not known."""


class FlowRecord(NamedTuple):
    """A connection as the kernel side counted it; times are kernel nanoseconds."""

    born_ns: int
    """Time of its first packet; with the key it identifies the connection."""
    last_ns: int
    min_iat_ns: int | None
    """Least time between two consecutive packets; None if no such time was measured."""
    max_iat_ns: int | None
    """The greatest; None with `min_iat_ns`."""
    close: str
    """fin, rst, idle, evicted, removed or shutdown; "" while it is open."""
    midstream: bool
    """Its SYN was not seen."""
    end_sent: bool
    """The sample of its end has reached the ring."""
    client: int
    """The end that opened it: 0, 1 or abi.CLIENT_UNKNOWN."""
    sides: tuple[SideRecord, SideRecord]
    """By end."""
    rtt_client_us: int | None
    """From the SYN-ACK to the final ACK; None if either was not seen."""
    rtt_server_us: int | None
    """From the SYN to the SYN-ACK; None if either was not seen."""
    rtt_min_us: int | None
    """Shortest time from data of the server to the client's ACK; None if none was measured."""
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
