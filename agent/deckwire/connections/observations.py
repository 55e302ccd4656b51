"""What a connection's handshake showed: values from which events are made."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.tcp.anomaly import Anomaly
from deckwire.tcp.handshake import Handshake
from deckwire.tls.messages import ClientHello, ServerHello

_SEQ_MASK = 0xFFFF_FFFF


class HelloSeen(NamedTuple):
    """A ClientHello, or the part of it that was seen."""

    time_ns: int
    """Kernel time of the segment that completed it."""
    hello: ClientHello
    quality: str
    """complete, reassembled, overlap, contested, truncated or gap."""
    start_seq: int | None
    """Sequence number at which the client's TLS began."""
    signature: int
    """The kernel's hash of the hello and its sender; 0 if the kernel made none."""
    reversed: bool = False
    """The end that opened the connection is the TLS server."""

    def offset(self, handshake: Handshake) -> int | None:
        """Bytes that its sender sent before TLS began; None if its SYN was not seen."""
        opening = handshake.synack if self.reversed else handshake.syn
        if opening is None or self.start_seq is None:
            return None
        return (self.start_seq - opening.seq - 1) & _SEQ_MASK


class SessionSeen(NamedTuple):
    """The first ServerHello, with the ClientHello that it answers if that is known."""

    time_ns: int
    hello: ServerHello
    client: ClientHello | None
    resumed: bool | None
    """Whether an older session goes on; None where it does not show."""
    after_retry: ServerHello | None = None
    """The ServerHello after `hello`, if that is a HelloRetryRequest."""
    reversed: bool = False
    """As in HelloSeen."""


class CertificatesSeen(NamedTuple):
    """A clear-text Certificate message with at least one certificate."""

    time_ns: int
    chain: tuple[bytes, ...]
    """DER, the sender's own first; at most limits.CERTIFICATES."""
    chain_length: int | None
    """Certificates in the message; None if the message was cut."""
    from_client: bool
    quality: str
    """One of the words of HelloSeen."""
    client: ClientHello | None
    reversed: bool = False
    """As in HelloSeen."""


class AnomalySeen(NamedTuple):
    """Something in a connection that is there to be misread."""

    time_ns: int
    anomaly: Anomaly
    sender: int | None
    """The end that sent it, if it is of one segment."""
    hello: ClientHello | None
    """A ClientHello that was not believed."""


Observation = HelloSeen | SessionSeen | CertificatesSeen | AnomalySeen
