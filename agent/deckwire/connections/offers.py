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

    @property
    def run(self) -> int | None:
        """The sequence number at which its run of records began."""
        return self.seen.start_seq

    def unanswered(self, end: int) -> AnomalySeen:
        """What is reported of it if another one was answered; `end` sent it."""
        evidence = "a ClientHello that was not answered, and another one"
        anomaly = Anomaly(Technique.UNANSWERED_HELLO, evidence)
        return AnomalySeen(self.seen.time_ns, anomaly, end, self.seen.hello)


class Offers:
    """Those of both ends, at most OFFERED_HELLOS of each, until one is answered.

    Each end may offer several, in runs of records: bytes that look like one may be a line of
    another protocol to the peer. A peer that says something else has refused all before it, unless
    it responds to bytes before the hello. Of one run a TLS server answers the first.
    """

    __slots__ = ("_offered", "_refused", "several")

    def __init__(self) -> None:
        self.several = False
        """There were more than one."""
        self._offered: tuple[list[Offer], list[Offer]] = [], []
        self._refused = [0, 0]
        """How many of them the peer sent other bytes than TLS after."""

    def of(self, end: int) -> list[Offer]:
        """Those of one end, in the order of their coming."""
        return self._offered[end]

    def add(self, end: int, offer: Offer) -> Offer | None:
        """Add one; return the one that has no room: this, or an older one that led to nothing."""
        offers = self._offered[end]
        dropped = None
        if len(offers) >= OFFERED_HELLOS:
            if offers[-1].run == offer.run:
                return offer
            dropped = offers.pop(0)
            self._refused[end] = max(0, self._refused[end] - 1)
        self.several = self.several or bool(offers or self._offered[1 - end])
        offers.append(offer)
        return dropped

    def note_plain(self, sender: int) -> None:
        """Note that an end has sent other bytes than TLS."""
        self._refused[1 - sender] = len(self._offered[1 - sender])

    def left(self, end: int) -> bool:
        """Whether there is one of this end that the peer has not refused."""
        return self._refused[end] < len(self._offered[end])

    def answered(
        self, client: int, first_seq: int | None, *, at_once: bool
    ) -> tuple[Offer | None, bool]:
        """The one of this end that a ServerHello of the other end answers, and if that is in doubt.

        `first_seq` is where this end began to send. `at_once` means that the other end began with
        its ServerHello: then it has passed over nothing.
        """
        offers = self._offered[client]
        if len(offers) < 2:
            return offers[0] if offers else None, False
        left = offers[self._refused[client] :]
        if not left:
            # What the peer said last responds to bytes before the hello that it answers.
            last = self._last(client, offers)
            return last, any(each.run not in {first_seq, last.run} for each in offers)
        first = left[0]
        if left[-1].run == first.run:
            return first, first.pipelined and left[-1] is not first
        if not at_once:
            return self._last(client, left) if first.pipelined else first, True
        if first.run == first_seq:
            return first, False
        # It has passed over the bytes before the first one, and perhaps over that one too.
        return self._last(client, left), True

    def due(self, client: int) -> tuple[int, Offer | None]:
        """At the end, without an answer: the one that was due for it, after the end that sent it.

        `client` is who opened the connection.
        """
        end = client if self._offered[client] or not self._offered[1 - client] else 1 - client
        offers = self._offered[end]
        whole = [offer for offer in offers if not offer.seen.hello.cut] or offers
        return end, self._last(end, whole) if whole else None

    def others(self, client: int, answered: Offer | None) -> list[tuple[int, Offer]]:
        """All but the one that was answered, or None for one that was not seen.

        Each comes after the end that sent it.
        """
        ends = (client, 1 - client)
        return [
            (end, offer) for end in ends for offer in self._offered[end] if offer is not answered
        ]

    def _last(self, client: int, offers: list[Offer]) -> Offer:
        """The last one if the peer has refused those before it, else the first of its run."""
        last = offers[-1]
        if self._refused[client] == len(self._offered[client]) and not last.pipelined:
            return last
        return next(each for each in offers if each.run == last.run)


def is_plain(side: Direction, sample: SegmentSample) -> bool:
    """Whether a segment of an end that has begun no TLS, as `side` shows, is something else."""
    return side.start_seq is None and bool(sample.payload) and sample.payload[0] not in _TLS_TYPES


def contested(time_ns: int, end: int, other: ClientHello | None) -> AnomalySeen:
    """What is reported of the copy of a hello that is not believed, if no rule decides."""
    evidence = "the copies differ where no rule shows which one the receiver took"
    return AnomalySeen(time_ns, Anomaly(Technique.CONTESTED_HELLO, evidence), end, other)
