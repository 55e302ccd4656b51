"""One connection's TLS: from sampled segments to what its handshake showed. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from deckwire.abi import structs as abi
from deckwire.abi.samples import SegmentSample, SuppressedHello
from deckwire.connections.direction import Direction
from deckwire.connections.observations import (
    AnomalySeen,
    CertificatesSeen,
    HelloSeen,
    Observation,
    SessionSeen,
)
from deckwire.connections.offers import Offer, Offers, contested, is_plain
from deckwire.connections.transitions import (
    CERTIFICATE,
    CLIENT,
    CLIENT_HELLO,
    CLIENT_HELLOS,
    HELLO_RETRY_REQUEST,
    MISPLACED_TYPES,
    SERVER,
    SERVER_HELLO,
    SERVER_HELLOS,
    SSL2_CLIENT_HELLO,
    Stage,
    Step,
)
from deckwire.tcp.anomaly import Anomaly, Technique
from deckwire.tcp.handshake import Handshake
from deckwire.tls import messages
from deckwire.tls.errors import Malformed
from deckwire.tls.hello_cache import HelloCache, head, session_id
from deckwire.tls.messages import SESSION_ID_BYTES, ClientHello, ServerHello
from deckwire.tls.records import HandshakeMessage, State, whole_messages
from deckwire.tls.resumption import is_resumed

_TLS13: Final = 0x0304
_SEQ_MASK: Final = 0xFFFF_FFFF
_CLOSED, _MALFORMED = State.CLOSED, State.MALFORMED
_RANDOM: Final = slice(2, 34)
_CUT: Final = ("truncated", "gap")
"""Qualities of messages that lack their end."""
_Seen = list[Observation]
_REPORTED_CUT: Final = (CLIENT_HELLO, CERTIFICATE)
"""Messages that are reported although their end is missing."""


class Connection:
    """One connection from its first TLS sample until all clear text has been reported.

    The Directions give messages. The tables of `transitions` say what each leads to. Who is the
    TLS client shows when a ClientHello is answered, whoever opened the connection.
    """

    # Defaults of the class: most connections set few of them.
    hello: ClientHello | None = None
    """The ClientHello, or an equal one that an earlier connection sent."""
    misplaced = 0
    """Messages sent where none of their kind can be; no event is made of them."""
    malformed = 0
    """Messages whose bodies are malformed, and streams whose records are."""
    _stage: Stage
    _tls_client: int | None = None
    """The end whose ClientHello was answered."""
    _offers: Offers | None = None
    """The ClientHellos that may still be answered."""
    _pipelined = 0
    """Ends, as bits, whose run of records began behind other bytes: as in Offer."""
    _client_chain_due = False
    """The server has asked for the client's certificate."""
    _hellos_held = 0
    """Bytes of memory of the hellos that it holds, shared with other connections or not."""
    _client_head = b""
    """First bytes of the ClientHello, with its session id; `hello` may be an equal one."""
    _server_head = b""
    """First bytes of the ServerHello, with its session id."""
    _session: tuple[int, ServerHello, ServerHello | None] | None = None
    """A session that waits: its time, ServerHello, and the one after a HelloRetryRequest."""
    _later: tuple[CertificatesSeen, ...] = ()
    """Certificates that came after that session, and wait with it."""
    _signature = 0
    """The kernel's hash of the hello in the sample that is being taken."""
    _overlap_seen = False
    """An anomaly of segments that contradict each other was reported."""
    _copy: Direction | None = None
    """What was sent at the place of the ClientHello that the kernel suppressed."""
    _recalled: ClientHello | None = None
    """The ClientHello of which there was no sample, or an equal one."""
    _find_suppressed: Callable[[], SuppressedHello | None] | None = None
    """Reads what the kernel keeps of the ClientHello, if there was no sample of it."""
    _suppressed_refused = False
    """The peer of that ClientHello has said something else than TLS."""

    def __init__(
        self,
        key: bytes,
        born_ns: int,
        client: int,
        handshake: Handshake | Callable[[], Handshake],
        hellos: HelloCache,
        *,
        midstream: bool = False,
        proven: bool = True,
    ) -> None:
        """`handshake` may be a function that finds it: called once, when it is needed."""
        self.key = key
        self.born_ns = born_ns
        self.midstream = midstream
        """It is not in the table of connections whose handshake was seen."""
        self.proven = proven
        """Its handshake was seen, or both ends take part in it: nobody forged it blindly."""
        self.client = client
        """0, 1 or abi.CLIENT_UNKNOWN until a hello shows it."""
        self._handshake = handshake
        self._hellos = hellos
        self._stage = Stage.HELLO_DUE
        self.sides = Direction(), Direction()
        """What each end sent, by end."""

    @property
    def handshake(self) -> Handshake:
        """How the connection was opened, as far as that is known."""
        if not isinstance(self._handshake, Handshake):
            self._handshake = self._handshake()
        return self._handshake

    @handshake.setter
    def handshake(self, handshake: Handshake) -> None:
        self._handshake = handshake

    @property
    def unseen(self) -> bool:
        """Whether its handshake was not seen."""
        return self.midstream and self.handshake.established_ns is None

    @property
    def held(self) -> int:
        """Bytes of memory that its payload and its parsed hellos take, about."""
        first, second = self.sides
        if first.closed and second.closed:
            return 0
        copy = 0 if self._copy is None else self._copy.held
        return first.held + second.held + copy + self._hellos_held

    @property
    def done(self) -> bool:
        """Whether everything that can be reported has been."""
        return self.sides[0].closed and self.sides[1].closed

    @property
    def _is_reversed(self) -> bool:
        """Whether who opened the connection is the TLS server."""
        return self.client < abi.CLIENT_UNKNOWN and self._tls_client == 1 - self.client

    def recall(
        self, hello: ClientHello | None, find_suppressed: Callable[[], SuppressedHello | None]
    ) -> None:
        """Use a ClientHello of which the kernel suppressed the sample.

        `hello` is an equal one, or None if it was evicted. `find_suppressed` is called for what
        hardly any connection needs: to compare session ids, and to find where the client's bytes
        after the hello begin. It may find nothing.
        """
        self._recalled = hello
        self._find_suppressed = find_suppressed

    def add(self, sample: SegmentSample) -> list[Observation]:
        """Take a segment of either direction; what it shows."""
        self._signature = 0 if sample.hello_suppressed else sample.hello
        if self.client == abi.CLIENT_UNKNOWN:
            self.client = sample.client
        sender = sample.sender
        side = self.sides[sender]
        seen: list[Observation] = []
        if self._find_suppressed is not None and sender == self.client:
            self._take_copy(sample, seen)
        if not side.last_ns and (sample.start_seq is None or self._find_suppressed is not None):
            self._orient(side, sample)
        if sample.start_seq is not None:
            self._begin_run(side, sample, sample.start_seq, seen)
        if is_plain(side, sample):
            self._note_plain(sender)
        for message, quality in side.add(sample):
            self._take(sender, message, quality, seen)
        if side.overlapped is not None and not self._overlap_seen:
            self._report_overlap(sender, side.overlapped, seen)
        if not side.closed:
            state = side.state
            if sample.ends and not side.behind_hole:
                side.close()
            elif state is _CLOSED:
                self._end_clear_text(side)
            elif state is _MALFORMED:
                self._give_up(sender)
        self._close_client_side()
        if self._session is not None and self._session_is_complete():
            self._release(*self._session, seen)
        return seen

    def finish(self) -> list[Observation]:
        """End the connection; what was cut off is reported as far as it goes."""
        self._signature = 0
        seen: list[Observation] = []
        for sender in (self.client & 1, 1 - (self.client & 1)):
            side = self.sides[sender]
            for message, quality in side.salvage():
                if quality == "contested" and self._is_malformed(message.body):
                    # The other copy gives it by chance: a byte more, and any length is another.
                    continue
                self._take(sender, message, quality, seen)
            unfinished = side.unfinished()
            if unfinished is not None and unfinished[0].type in _REPORTED_CUT:
                self._take(sender, *unfinished, seen)
        if self._tls_client is None:
            self._decide_unanswered(seen)
        if self._session is not None:
            self._release(*self._session, seen)
        if self._later:
            seen += self._certificates()
        for side in self.sides:
            side.close()
        self._copy = None
        return seen

    # --- where a direction begins ---

    def _begin_run(
        self, side: Direction, sample: SegmentSample, start_seq: int, seen: _Seen
    ) -> None:
        """Before a segment in which a run of records begins."""
        sender = sample.sender
        if side.start_seq not in (None, start_seq):
            # The kernel has seen that what began before was no TLS, or ends in this segment.
            before = (start_seq - sample.seq) & _SEQ_MASK
            if 0 < before < len(sample.payload):
                part = replace(sample, payload=sample.payload[:before], claimed=before)
                seen += self.add(replace(part, start_seq=None, ends=False))
            if side.start_seq is not None:
                self._give_up(sender)
        self._pipelined &= ~(1 << sender)
        self._pipelined |= (start_seq != sample.seq) << sender

    def _orient(self, side: Direction, sample: SegmentSample) -> None:
        """Before the first segment of a direction: find where its TLS may begin, if asked."""
        if self._find_suppressed is not None and sample.sender == self.client:
            suppressed = self._find_suppressed()
            if suppressed is not None:
                side.begin(suppressed.end_seq)
        elif sample.start_seq is None and self.client != abi.CLIENT_UNKNOWN:
            side.anchor(self.handshake.first_seq(of_client=sample.sender == self.client))

    # --- messages ---

    def _take(self, sender: int, message: HandshakeMessage, quality: str, seen: _Seen) -> None:
        """Do what the tables say of a message."""
        kind = message.type
        if kind == SERVER_HELLO and message.body[_RANDOM] == messages.HELLO_RETRY_REQUEST:
            kind = HELLO_RETRY_REQUEST
        if self.client == abi.CLIENT_UNKNOWN:
            if kind in CLIENT_HELLOS:
                self.client = sender
            elif kind in SERVER_HELLOS:
                self.client = 1 - sender
        step: Step | None
        following = self._stage
        if self._is_from_client(sender, kind):
            step = CLIENT.get(kind)
        else:
            step, following = SERVER[self._stage].get(kind, (None, following))
        if step is None:
            self.misplaced += kind in MISPLACED_TYPES
            return
        if _STEPS[step](self, sender, message, quality, seen):
            self._stage = following

    def _is_from_client(self, sender: int, kind: int) -> bool:
        """Whether a message of this kind is judged as the TLS client's."""
        if self._tls_client is not None:
            return sender == self._tls_client
        if kind in CLIENT_HELLOS:
            return True
        if kind in SERVER_HELLOS:
            # Who opened the connection sends one only in response to a hello of the other end.
            if sender != self.client:
                return False
            return self._offers is None or not self._offers.of(1 - sender)
        return sender == self.client

    def _take_client_hello(
        self, sender: int, message: HandshakeMessage, quality: str, seen: _Seen
    ) -> bool:
        """Keep a ClientHello until one is answered; False if it is malformed."""
        if self._tls_client is not None and (
            self.hello is not None or self._find_suppressed is not None
        ):
            # It answers a HelloRetryRequest.
            return True
        side, cut = self.sides[sender], quality in _CUT
        try:
            if message.type == SSL2_CLIENT_HELLO:
                hello = messages.parse_ssl2_client_hello(message.body)
            elif cut:
                hello = messages.parse_client_hello(message.body, cut=True)
            else:
                hello = self._hellos.client(message.body)
        except Malformed:
            self.malformed += not cut
            side.restart()
            return False
        if quality == "contested":
            quality = self._contest(sender, hello, seen)
        offer = Offer(
            HelloSeen(side.last_ns, hello, quality, side.start_seq, self._signature),
            b"" if hello.ssl2 else head(message.body),
            bool(self._pipelined >> sender & 1),
        )
        if self._tls_client is not None:
            # Bytes of it came after the answer.
            self._hellos_held += hello.memory
            self._believe(offer, seen)
            return True
        if self._offers is None:
            self._offers = Offers()
        dropped = self._offers.add(sender, offer)
        if dropped is offer:
            self.misplaced += 1
            return True
        if dropped is not None:
            self._drop(sender, dropped, seen)
        self._hellos_held += hello.memory
        return True

    def _take_server_hello(
        self, sender: int, message: HandshakeMessage, _quality: str, seen: _Seen
    ) -> bool:
        """Keep the session until the ClientHello is there; False if the message is malformed."""
        side = self.sides[sender]
        server = self._server_hello(side, message)
        if server is None:
            return False
        if self._tls_client is None:
            # A client has no certificate to send before: those were lines of another protocol.
            self.misplaced += len(self._later)
            self._later = ()
            self._search(1 - sender, seen)
            self._decide(1 - sender, *self._answered(1 - sender), seen)
        self._server_head = head(message.body)
        self._session = side.last_ns, server, None
        if (server.selected_version or server.legacy_version) >= _TLS13 and (
            not server.is_hello_retry_request
        ):
            # What follows is encrypted.
            side.close()
        return True

    def _take_hello_after_retry(
        self, sender: int, message: HandshakeMessage, _quality: str, _seen: _Seen
    ) -> bool:
        """Add the ServerHello to the session that the HelloRetryRequest began."""
        side = self.sides[sender]
        server = self._server_hello(side, message)
        if server is None or self._session is None:
            return False
        self._session = side.last_ns, self._session[1], server
        side.close()
        return True

    def _server_hello(self, side: Direction, message: HandshakeMessage) -> ServerHello | None:
        """Parse a ServerHello; None, and counted, if it is malformed."""
        try:
            server = self._hellos.server(message.body)
            if server.trailing:
                # Random bytes pass easily for one: its lengths must agree to the byte.
                raise Malformed("bytes after the extensions")
            own_id = session_id(message.body)
            if len(own_id) > SESSION_ID_BYTES and not self._is_offered_id(own_id):
                raise Malformed("session id too long")
        except Malformed:
            self.malformed += 1
            side.restart()
            return None
        self._hellos_held += server.memory
        return server

    def _take_server_chain(
        self, sender: int, message: HandshakeMessage, quality: str, seen: _Seen
    ) -> bool:
        self._take_chain(sender, message.body, quality, False, seen)
        return True

    def _take_client_chain(
        self, sender: int, message: HandshakeMessage, quality: str, seen: _Seen
    ) -> bool:
        self._take_chain(sender, message.body, quality, True, seen)
        self._end_clear_text(self.sides[sender])
        return True

    def _expect_client_chain(
        self, _sender: int, _message: HandshakeMessage, _quality: str, _seen: _Seen
    ) -> bool:
        self._client_chain_due = True
        return True

    def _close(self, sender: int, _message: HandshakeMessage, _quality: str, _seen: _Seen) -> bool:
        self._end_clear_text(self.sides[sender])
        return True

    def _take_chain(
        self, sender: int, body: bytes, quality: str, from_client: bool, seen: _Seen
    ) -> None:
        """Report the certificates of a message, after the session that they belong to."""
        cut = quality in _CUT
        try:
            if cut:
                message = messages.parse_certificate(body, cut=True)
            else:
                message = self._hellos.chain(body)
        except Malformed:
            self.malformed += not cut
            return
        if not message.certificates:
            return
        self._later += (
            CertificatesSeen(
                self.sides[sender].last_ns,
                message.certificates,
                None if cut else message.chain_length,
                from_client,
                quality,
                None,
            ),
        )
        if self._session is None and (
            self._tls_client is not None or (self._offers is None and not from_client)
        ):
            seen += self._certificates()

    def _is_offered_id(self, own_id: bytes) -> bool:
        """Whether a ClientHello had this session id, which a server then may send back."""
        offers = [] if self._offers is None else [*self._offers.of(0), *self._offers.of(1)]
        heads = [self._client_head, *(offer.head for offer in offers)]
        return any(own_id == session_id(each) for each in heads)

    # --- which hello was answered ---

    def _note_plain(self, sender: int) -> None:
        """Note that an end sends other bytes than TLS, which is no answer to a ClientHello."""
        if self._offers is not None:
            self._offers.note_plain(sender)
        if self._find_suppressed is not None and sender != self.client:
            self._suppressed_refused = True

    def _awaits_answer(self, tls_client: int) -> bool:
        """Whether a ClientHello of which there was no sample may be answered now."""
        return (
            self._find_suppressed is not None
            and tls_client == self.client
            and not self._suppressed_refused
        )

    def _search(self, tls_client: int, seen: _Seen) -> None:
        """Before an answer: find the ClientHello, if none is known that it can be meant for."""
        if self._offers is not None and self._offers.left(tls_client):
            return
        if self._awaits_answer(tls_client):
            return
        for message, quality in self.sides[tls_client].search():
            self._pipelined |= 1 << tls_client
            self._take(tls_client, message, quality, seen)

    def _answered(self, tls_client: int) -> tuple[Offer | None, bool]:
        """The ClientHello that is answered now, and if it may as well be another one.

        None if there was no sample of it.
        """
        offers = self._offers
        if offers is None:
            return None, False
        first_seq, at_once = None, False
        is_suppressed = self._awaits_answer(tls_client)
        if offers.several or is_suppressed:
            is_client = tls_client == self.client
            first_seq = self.handshake.first_seq(of_client=is_client)
            answer_seq = self.handshake.first_seq(of_client=not is_client)
            at_once = answer_seq is not None and self.sides[1 - tls_client].start_seq == answer_seq
        if is_suppressed:
            return None, not at_once and bool(offers.of(tls_client))
        return offers.answered(tls_client, first_seq, at_once=at_once)

    def _decide(
        self, tls_client: int, answered: Offer | None, is_doubted: bool, seen: _Seen
    ) -> None:
        """Fix who the TLS client is, and report its ClientHello and those that went nowhere."""
        self._tls_client = tls_client
        if answered is not None:
            self._believe(answered, seen, "contested" if is_doubted else None)
        elif tls_client == self.client:
            self.hello = self._recalled
        offers, self._offers = self._offers, None
        if offers is None or (answered is not None and not offers.several):
            return
        for end, offer in offers.others(tls_client, answered):
            self._drop(end, offer, seen, is_doubted=is_doubted and end == tls_client)

    def _decide_unanswered(self, seen: _Seen) -> None:
        """At the end: of ClientHellos without an answer, report the one that was due for it."""
        client, due = self.client & 1, None
        if self._offers is not None:
            client, due = self._offers.due(client)
        self._decide(client, due, False, seen)

    def _believe(self, offer: Offer, seen: _Seen, quality: str | None = None) -> None:
        """Report the ClientHello that was answered, with this quality if not with its own."""
        self.hello = offer.seen.hello
        self._client_head = offer.head
        self._recalled = self._find_suppressed = None
        hello = offer.seen if quality is None else offer.seen._replace(quality=quality)
        seen.append(hello._replace(reversed=True) if self._is_reversed else hello)

    def _drop(self, end: int, offer: Offer, seen: _Seen, *, is_doubted: bool = False) -> None:
        """Report an offer that led to nothing, or that may have been the answered one."""
        self._hellos_held -= offer.seen.hello.memory
        if is_doubted:
            seen.append(contested(offer.seen.time_ns, end, offer.seen.hello))
        else:
            seen.append(offer.unanswered(end))

    # --- what is not believed ---

    def _contest(self, sender: int, hello: ClientHello, seen: _Seen) -> str:
        """Report the other copy of a hello; the quality of the one that is believed."""
        side = self.sides[sender]
        other = self._parsed(side.take_other_hello())
        if other == hello:
            return "overlap"
        seen.append(contested(side.last_ns, sender, other))
        return "contested"

    def _report_overlap(self, sender: int, sample: SegmentSample, seen: _Seen) -> None:
        """Report the first segment that contradicts what its sender sent before."""
        self._overlap_seen = True
        evidence = f"seq {sample.seq} bytes {sample.claimed}"
        body = next(
            (m.body for m in whole_messages(sample.payload) if m.type == CLIENT_HELLO), None
        )
        other = self._parsed(body) if sender == self.client else None
        offers = [] if self._offers is None else self._offers.of(sender)
        known = [self.hello, self._recalled, *(offer.seen.hello for offer in offers)]
        if other in known:
            other = None
        seen.append(
            AnomalySeen(
                sample.time_ns, Anomaly(Technique.OVERLAPPING_SEGMENTS, evidence), sender, other
            )
        )

    def _take_copy(self, sample: SegmentSample, seen: _Seen) -> None:
        """Take a segment at the place of the suppressed hello: its bytes may be others."""
        suppressed = self._find_suppressed() if self._find_suppressed is not None else None
        start = self.handshake.first_seq(of_client=True)
        if suppressed is None or start is None or self._overlap_seen:
            return
        if not (suppressed.end_seq - sample.seq - 1) & _SEQ_MASK < _SEQ_MASK >> 1:
            return
        if self._copy is None:
            self._copy = Direction()
            self._copy.begin(start)
        for message, _ in self._copy.add(sample):
            if message.type != CLIENT_HELLO:
                continue
            other = self._parsed(message.body)
            self._copy.close()
            self._overlap_seen = True
            known = self.hello or self._recalled
            if other is not None and known is not None and other != known:
                evidence = "other bytes at the place of a hello that was emitted before"
                anomaly = Anomaly(Technique.OVERLAPPING_SEGMENTS, evidence)
                seen.append(AnomalySeen(sample.time_ns, anomaly, sample.sender, other))

    def _parsed(self, body: bytes | None) -> ClientHello | None:
        try:
            return None if body is None else self._hellos.client(body)
        except Malformed:
            return None

    def _is_malformed(self, body: bytes) -> bool:
        hello = self._parsed(body)
        return hello is None or hello.malformed

    # --- what is still due ---

    def _give_up(self, sender: int) -> None:
        """Stop reading an end's bytes as TLS; its hello may still come (after STARTTLS)."""
        self.malformed += 1
        self._end_clear_text(self.sides[sender])

    def _end_clear_text(self, side: Direction) -> None:
        """Nothing more is to be read here, unless what was read was no TLS to the peer."""
        if self._tls_client is None:
            side.restart()
        else:
            side.close()

    def _close_client_side(self) -> None:
        """After the server's clear text, only a certificate of the client is of interest."""
        if self._tls_client is None or self.hello is None or self._client_chain_due:
            return
        if self.sides[1 - self._tls_client].closed:
            self.sides[self._tls_client].close()

    def _session_is_complete(self) -> bool:
        """Whether neither the ClientHello nor a ServerHello after a retry may still come."""
        if self._tls_client is None:
            return False
        if self._stage is Stage.RETRY_TAKEN and not self.sides[1 - self._tls_client].closed:
            return False
        return self.hello is not None or not self.sides[self._tls_client].waiting

    def _certificates(self) -> _Seen:
        """The certificates that waited, with the ClientHello if that has come."""
        later, self._later = self._later, ()
        return [each._replace(client=self.hello, reversed=self._is_reversed) for each in later]

    def _release(
        self, time_ns: int, server: ServerHello, after_retry: ServerHello | None, seen: _Seen
    ) -> None:
        """Report the session and its certificates, with the ClientHello if that has come."""
        resumed = is_resumed(after_retry or server, self._is_id_echoed)
        seen.append(
            SessionSeen(time_ns, server, self.hello, resumed, after_retry, self._is_reversed)
        )
        self._session = None
        if self._later:
            seen += self._certificates()

    def _is_id_echoed(self) -> bool | None:
        """Whether the server's session id is the client's; None if that is not known."""
        if self.hello is None:
            return None
        echoed = session_id(self._server_head)
        if self._find_suppressed is None:
            return bool(echoed) and echoed == session_id(self._client_head)
        suppressed = self._find_suppressed()
        return None if suppressed is None else suppressed.has_session_id(echoed)


_STEPS: dict[Step, Callable[[Connection, int, HandshakeMessage, str, _Seen], bool]] = {
    Step.TAKE_CLIENT_HELLO: Connection._take_client_hello,
    Step.TAKE_SERVER_HELLO: Connection._take_server_hello,
    Step.TAKE_SERVER_CHAIN: Connection._take_server_chain,
    Step.TAKE_CLIENT_CHAIN: Connection._take_client_chain,
    Step.EXPECT_CLIENT_CHAIN: Connection._expect_client_chain,
    Step.CLOSE: Connection._close,
    Step.TAKE_HELLO_AFTER_RETRY: Connection._take_hello_after_retry,
}
"""What does each step: with the sender, the message and its quality, and the list of what was
seen. False leaves the stage as it was."""
