"""The 4-tuple of a connection, and its figures as the kernel side counted them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_SEQ_MASK = 0xFFFF_FFFF
_SEQ_HALF = 0x8000_0000


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
    acked_seq: int = 0
    """The sequence number that it acknowledged last; of use if `accepted` is known."""

    def without_urgent(self, marks: Iterable[int]) -> SideRecord:
        """The same without the urgent bytes at these sequence numbers: no socket reads them."""
        if self.accepted is None:
            return self
        taken = sum((self.acked_seq - mark - 1) & _SEQ_MASK < _SEQ_HALF for mark in marks)
        return self._replace(accepted=max(self.accepted - taken, 0))


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
    unseen: bool = False
    """Its handshake was not seen."""
    proven: bool = True
    """Its handshake was seen, or both ends take part in it: nobody forged it blindly."""
    heads: tuple[int, int] = (0, 0)
    """By end: the signature of first bytes that the kernel suppressed, if more could follow."""
    isn: tuple[int, int] | None = None
    """By end: the initial sequence number; None of a mid-stream connection."""
    resumed: tuple[int, int] = (0, 0)
    """By end: how often its RST seemed to end the connection and was not taken, modulo 8."""

    def without_urgent(self, marks: tuple[Iterable[int], Iterable[int]]) -> FlowRecord:
        """The same without the urgent bytes of each end, in `accepted`."""
        first, second = self.sides
        return self._replace(
            sides=(first.without_urgent(marks[0]), second.without_urgent(marks[1]))
        )

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


def is_refused(record: FlowRecord) -> bool:
    """Whether an end knows no such connection: a reset is all with which it answered.

    Of a connection whose handshake was seen, or in which both ends take part, that is not known.
    """
    answers = [side.packets for side in record.sides if not side.bytes]
    return record.close == "rst" and not record.proven and answers == [1]


class FlowSums(NamedTuple):
    """The figures of several connections together."""

    packets: int
    bytes: int
    """TCP payload of both directions."""
    longest_ns: int | None
    """The longest duration; None if none is known."""
    largest: int
    """Bytes of the largest one."""

    def plus(self, other: FlowSums) -> FlowSums:
        """Both together."""
        known = [each for each in (self.longest_ns, other.longest_ns) if each is not None]
        return FlowSums(
            self.packets + other.packets,
            self.bytes + other.bytes,
            max(known, default=None),
            max(self.largest, other.largest),
        )


def sums_of(record: FlowRecord) -> FlowSums:
    """The figures of one connection."""
    first, second = record.sides
    total = first.bytes + second.bytes
    longest_ns = max(record.last_ns - record.born_ns, 0) if record.timed else None
    # This makes a FlowSums in half the time of a call.
    return tuple.__new__(FlowSums, (first.packets + second.packets, total, longest_ns, total))


def has_ports(key: bytes) -> bool:
    """Whether a flow key is of a packet with ports: a fragment and an unread packet have none."""
    return key[32:36] != bytes(4)
