"""The ClientHellos of a connection that may be answered, and which of them was. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.abi.samples import SegmentSample
from deckwire.connections.direction import Direction
from deckwire.connections.observations import AnomalySeen, HelloSeen
from deckwire.limits import OFFERED_HELLOS
from deckwire.tcp.anomaly import Anomaly, Technique
from deckwire.tls.messages import ClientHello

_TLS_TYPES = range(20, 25)


class Offer(NamedTuple):
    """A ClientHello that may be answered."""

    seen: HelloSeen
    head: bytes
    """Its first bytes, with its session id; empty if it has none."""
    pipelined: bool
    """Its run of records began behind other bytes of its segment."""

    def unanswered(self, end: int) -> AnomalySeen:
        """What is reported of it if another one was answered; `end` sent it."""
        evidence = "a ClientHello that was not answered, and another one"
        anomaly = Anomaly(Technique.UNANSWERED_HELLO, evidence)
        return AnomalySeen(self.seen.time_ns, anomaly, end, self.seen.hello)


class Offers:
    """Those of both ends, at most OFFERED_HELLOS of each, until one is answered.

    Each end may offer several: bytes that look like one may be a line of another protocol to the
    peer. Of those in one run of records a server answers the first. It was no hello to a peer that
    said something else to it: then the last one counts, unless bytes before the run explain it.
    """

    __slots__ = ("_offered", "_plain", "several")

    def __init__(self) -> None:
        self.several = False
        """There were more than one."""
        self._offered: tuple[list[Offer], list[Offer]] = [], []
        self._plain = 0
        """Ends, as bits, that sent other bytes than TLS since the peer began its last hello."""

    def of(self, end: int) -> list[Offer]:
        """Those of one end, in the order of their coming."""
        return self._offered[end]

    def add(self, end: int, offer: Offer) -> Offer | None:
        """Add one; return the one that has no room: this, or an older one that led to nothing."""
        offers = self._offered[end]
        begins_run = not offers or offers[-1].seen.start_seq != offer.seen.start_seq
        if begins_run:
            self._plain &= ~(2 >> end)
        dropped = None
        if len(offers) >= OFFERED_HELLOS:
            if not begins_run:
                return offer
            dropped = offers.pop(0)
        self.several = self.several or bool(offers or self._offered[1 - end])
        offers.append(offer)
        return dropped

    def note_plain(self, side: Direction, sample: SegmentSample) -> None:
        """Note whether the sender of a segment, whose bytes `side` has, sends what is no TLS."""
        if side.start_seq is None and sample.payload and sample.payload[0] not in _TLS_TYPES:
            self._plain |= 1 << sample.sender

    def answered(self, client: int) -> Offer | None:
        """The one of this end that a ServerHello of the other end answers."""
        offers = self._offered[client]
        return self._likely(client, offers) if len(offers) > 1 else offers[0] if offers else None

    def due(self, client: int) -> tuple[int, Offer | None]:
        """At the end, without an answer: the one that was due for it, after the end that sent it.

        `client` is who opened the connection.
        """
        end = client if self._offered[client] or not self._offered[1 - client] else 1 - client
        offers = self._offered[end]
        whole = [offer for offer in offers if not offer.seen.hello.cut] or offers
        return end, self._likely(end, whole) if whole else None

    def others(
        self, client: int, answered: Offer | None
    ) -> tuple[list[tuple[int, Offer]], list[Offer]]:
        """All but the one that was answered, or None for one that was not seen.

        Returns those that led to nothing, each after the end that sent it, and those of the client
        that came after its answered one.
        """
        offers = self._offered[client]
        at = offers.index(answered) if answered is not None else 0
        unanswered = [(client, offer) for offer in offers[:at]]
        unanswered += [(1 - client, offer) for offer in self._offered[1 - client]]
        return unanswered, offers[at + 1 :]

    def _likely(self, client: int, offers: list[Offer]) -> Offer:
        last = offers[-1]
        if self._plain & 2 >> client and not last.pipelined:
            return last
        return next(each for each in offers if each.seen.start_seq == last.seen.start_seq)


def contested(time_ns: int, end: int, other: ClientHello | None) -> AnomalySeen:
    """What is reported of the copy of a hello that is not believed, if no rule decides."""
    evidence = "the copies differ where no rule shows which one the receiver took"
    return AnomalySeen(time_ns, Anomaly(Technique.CONTESTED_HELLO, evidence), end, other)
