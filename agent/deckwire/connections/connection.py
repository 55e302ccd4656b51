"""One connection's TLS: from sampled segments to what its handshake showed. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from deckwire.abi import structs as abi
from deckwire.abi.samples import SegmentSample
from deckwire.connections.suppressed_hello import SuppressedHello
from deckwire.limits import EARLY_PIECES, STREAM_BYTES
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.reassembly import Stream
from deckwire.tls import messages
from deckwire.tls.errors import Malformed
from deckwire.tls.hello_cache import HEAD_BYTES, HelloCache, session_id
from deckwire.tls.messages import ClientHello, ServerHello
from deckwire.tls.records import (
    HELLO_PREFIX_BYTES,
    HandshakeMessage,
    RecordReader,
    State,
    looks_like_hello,
    whole_messages,
)
from deckwire.tls.resumption import is_resumed

TLS13 = 0x0304
_SEQ_MASK = 0xFFFF_FFFF


class _Type:
    """Handshake messages that decide how a connection goes on (RFC 5246, 7.4).

    No IntEnum: every message is compared with most of them.
    """

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CLIENT_KEY_EXCHANGE = 16


class HelloSeen(NamedTuple):
    """A ClientHello, or what there was of it."""

    time_ns: int
    hello: ClientHello
    quality: str
    """complete, reassembled, overlap, truncated or gap."""
    start_seq: int | None
    """Sequence number at which the client's TLS began."""
    signature: int
    """The kernel's, of it and its sender; 0 if it made none."""

    def offset(self, handshake: Handshake) -> int | None:
        """Bytes that the client sent before TLS began; None if its SYN was not seen."""
        if handshake.syn is None or self.start_seq is None:
            return None
        return (self.start_seq - handshake.syn.seq - 1) & _SEQ_MASK


class SessionSeen(NamedTuple):
    """The first ServerHello, with the ClientHello that it answers if that is known."""

    time_ns: int
    hello: ServerHello
    client: ClientHello | None
    resumed: bool | None
    """Whether an older session goes on; None where it does not show."""


class CertificatesSeen(NamedTuple):
    """A clear-text Certificate message with at least one certificate."""

    time_ns: int
    chain: tuple[bytes, ...]
    """DER, the sender's own first; at most limits.CERTIFICATES."""
    chain_length: int | None
    """Certificates that the message holds; None of one that was cut."""
    from_client: bool
    quality: str
    """As of HelloSeen."""
    client: ClientHello | None


Observation = HelloSeen | SessionSeen | CertificatesSeen

_CLOSED, _MALFORMED = State.CLOSED, State.MALFORMED
_CUT = ("truncated", "gap")
"""Qualities of messages that lack their end."""
_TOLD_CUT = (_Type.CLIENT_HELLO, _Type.CERTIFICATE)
"""Messages that are told although their end is missing."""

_Message = tuple[HandshakeMessage, str]
"""A message and its quality."""


class _Direction:
    """What one end sent: finds where its TLS begins and reads messages from there."""

    # Defaults of the class: most directions tell all with one segment and set few of them.
    _early: tuple[SegmentSample, ...] = ()
    """Segments before the start is known."""
    _first: SegmentSample | None = None
    """It told all so far: nothing is opened for it."""
    _pending = False
    """Bytes of a message not complete yet were fed."""
    _reader: RecordReader | None = None
    _stream: Stream | None = None
    last_ns = 0
    start_seq: int | None = None
    closed = False
    held = 0
    """Payload bytes taken in: what is in memory is never more."""

    def restart(self) -> None:
        """What was read was not TLS: forget it, the kernel tells if a record begins again."""
        last_ns = self.last_ns
        self.__dict__.clear()
        self.last_ns = last_ns

    @property
    def is_new(self) -> bool:
        """Nothing of it has come yet."""
        return not self.last_ns

    def begin(self, seq: int) -> None:
        """A record begins at this sequence number; what was before is known. While it is new."""
        self.start_seq = seq

    def add(self, sample: SegmentSample) -> list[_Message]:
        """Take a segment; the messages that it completes, each with its quality."""
        if self.closed:
            return []
        self.last_ns = sample.time_ns
        if self.start_seq is None:
            if sample.start_seq is None:
                self._keep(sample)
                return []
            return self._begin(sample.start_seq, sample)
        stream, reader = self._opened(self.start_seq)
        return self._feed(stream, reader, sample)

    def close(self) -> None:
        """Nothing more is wanted of this direction: frees what it holds."""
        self.closed = True
        self._early = ()
        self._first = None
        self._stream = None
        self.held = 0

    @property
    def state(self) -> State:
        """What further records can be."""
        return State.NEED_MORE if self._reader is None else self._reader.state

    @property
    def waiting(self) -> bool:
        """Bytes were seen that are not told yet."""
        return not self.closed and self.held > 0

    @property
    def behind_hole(self) -> bool:
        """Bytes wait for others before them."""
        return self._stream is not None and self._stream.gap

    def unfinished(self) -> _Message | None:
        """At the end: the message that has begun but not ended."""
        if self._reader is None or self._stream is None:
            return None
        message = self._reader.unfinished()
        if message is None:
            return None
        # Bytes behind a hole, or a hole that the capture itself made, are not the peer's cut.
        lost = self._stream.gap or self._stream.cut
        told = HandshakeMessage(message.type, message.body, message.records)
        return told, "gap" if lost else "truncated"

    def salvage(self) -> list[_Message]:
        """At the end: messages behind bytes that never came, if a segment begins a hello."""
        if self.closed or self.start_seq is not None:
            return []
        for sample in self._early:
            if looks_like_hello(sample.payload[:HELLO_PREFIX_BYTES]):
                return self._begin(sample.seq, sample)
        return []

    def _keep(self, sample: SegmentSample) -> None:
        size = len(sample.payload)
        if len(self._early) < EARLY_PIECES and self.held + size <= STREAM_BYTES:
            self._early += (sample,)
            self.held += size

    def _begin(self, start_seq: int, sample: SegmentSample) -> list[_Message]:
        self.start_seq = start_seq
        if not self._early and sample.seq == start_seq:
            whole = whole_messages(sample.payload)
            if whole:
                # The usual direction ends with its first segment: what puts segments and records
                # together is made when another comes, and comes to the same.
                self._first = sample
                self.held = len(sample.payload)
                return [(message, "complete") for message in whole]
        stream, reader = self._opened(start_seq)
        for early in self._early:
            if early is not sample:
                stream.add(early.seq, early.payload, early.claimed)
        self._early = ()
        return self._feed(stream, reader, sample)

    def _opened(self, start_seq: int) -> tuple[Stream, RecordReader]:
        if self._stream is None or self._reader is None:
            self._stream, self._reader = Stream(start_seq), RecordReader()
            first, self._first = self._first, None
            if first is not None:
                self._stream.add(first.seq, first.payload, first.claimed)
                self._reader.feed(self._stream.read())
        return self._stream, self._reader

    def _feed(self, stream: Stream, reader: RecordReader, sample: SegmentSample) -> list[_Message]:
        self.held += len(sample.payload)
        waited = stream.gap
        stream.add(sample.seq, sample.payload, sample.claimed)
        data = stream.read()
        if not data:
            return []
        released = waited and not stream.gap
        told: list[_Message] = []
        for number, message in enumerate(reader.feed(data)):
            if stream.overlap:
                quality = "overlap"
            elif message.records > 1 or released or (number == 0 and self._pending):
                quality = "reassembled"
            else:
                quality = "complete"
            told.append((message, quality))
        self._pending = reader.pending
        return told


class Connection:
    """One connection from its first TLS sample until all that is clear has been told."""

    hello: ClientHello | None = None
    misplaced = 0
    """Messages where none of their kind can be: told to nobody."""
    malformed = 0
    """Messages whose bodies, and streams whose records, are not what they should be."""
    _hellos_held = 0
    """Bytes of both hellos, shared with others or not."""
    _session_id = b""
    """The client's: its hello may be another's of the same kind."""
    _find_suppressed: Callable[[], SuppressedHello | None] | None = None
    """Asks what is kept of the ClientHello, if there was no sample of it."""
    _signature: int = 0
    """Of the sample that is being taken."""
    _server: ServerHello | None = None
    _server_head = b""
    """Of the ServerHello as it came: `_server` may be another of the same kind."""
    _session: SessionSeen | None = None
    """Told as soon as the ClientHello is, or cannot come any more."""
    _later: tuple[CertificatesSeen, ...] = ()
    """Certificates behind that session."""
    _chain_emitted = False
    _client_certificate_due = False

    def __init__(
        self,
        key: bytes,
        born_ns: int,
        client: int,
        handshake: Handshake | Callable[[], Handshake],
        hellos: HelloCache,
    ) -> None:
        """`handshake` may be what finds it: it is asked once, when somebody wants to know."""
        self.key = key
        self.born_ns = born_ns
        self.client = client
        """0, 1 or abi.CLIENT_UNKNOWN until a hello tells."""
        self._handshake = handshake
        self._hellos = hellos
        self._sides = _Direction(), _Direction()

    @property
    def handshake(self) -> Handshake:
        """How it was opened, as far as that is known."""
        if not isinstance(self._handshake, Handshake):
            self._handshake = self._handshake()
        return self._handshake

    @handshake.setter
    def handshake(self, handshake: Handshake) -> None:
        self._handshake = handshake

    @property
    def held(self) -> int:
        """Bytes that it holds, at most: payload and what hellos were read to."""
        low, high = self._sides
        if low.closed and high.closed:
            return 0
        return low.held + high.held + self._hellos_held

    @property
    def done(self) -> bool:
        """All that can be told has been told."""
        return self._sides[0].closed and self._sides[1].closed

    def recall(
        self, hello: ClientHello | None, find_suppressed: Callable[[], SuppressedHello | None]
    ) -> None:
        """The kernel hid the ClientHello; `hello` is an equal one, or None if it was forgotten.

        `find_suppressed` is asked for what nearly no connection needs: to know a session id again, or
        where the client's bytes behind the hello begin. It may find nothing.
        """
        self.hello = hello
        self._find_suppressed = find_suppressed

    def add(self, sample: SegmentSample) -> list[Observation]:
        """Take a segment of either direction."""
        self._signature = 0 if sample.hello_suppressed else sample.hello
        if self.client == abi.CLIENT_UNKNOWN:
            self.client = sample.client
        side = self._sides[sample.sender]
        if self._find_suppressed is not None and sample.sender == self.client and side.is_new:
            hidden = self._find_suppressed()
            if hidden is not None:
                side.begin(hidden.end_seq)
        if side.start_seq is not None and sample.start_seq not in (None, side.start_seq):
            # The kernel has seen that what began before was no TLS.
            self._give_up(sample.sender)
        seen: list[Observation] = []
        for message, quality in side.add(sample):
            self._take(sample.sender, message, quality, seen)
        state = side.state
        if state is _CLOSED or (sample.ends and not side.behind_hole):
            side.close()
        elif state is _MALFORMED:
            self._give_up(sample.sender)
        self._close_client_side()
        if self._session is not None and (self.hello is not None or not self._client_side_waits()):
            self._release(self._session, seen)
        return seen

    def finish(self) -> list[Observation]:
        """No more will come: what was cut off is told as far as it goes."""
        seen: list[Observation] = []
        for sender in (self.client & 1, 1 - (self.client & 1)):
            side = self._sides[sender]
            for message, quality in side.salvage():
                self._take(sender, message, quality, seen)
            unfinished = side.unfinished()
            if unfinished is not None and unfinished[0].type in _TOLD_CUT:
                self._take(sender, *unfinished, seen)
        if self._session is not None:
            self._release(self._session, seen)
        for side in self._sides:
            side.close()
        return seen

    def _take(
        self, sender: int, message: HandshakeMessage, quality: str, seen: list[Observation]
    ) -> None:
        if self.client == abi.CLIENT_UNKNOWN:
            if message.type == _Type.CLIENT_HELLO:
                self.client = sender
            elif message.type == _Type.SERVER_HELLO:
                self.client = 1 - sender
        from_client = sender == self.client
        side = self._sides[sender]
        match message.type:
            case _Type.CLIENT_HELLO if from_client:
                # A second one answers a HelloRetryRequest: the first counts.
                if self.hello is None:
                    self._emit_hello(side, message.body, quality, seen)
            case _Type.SERVER_HELLO if not from_client and self._server is None:
                self._take_server_hello(side, message.body)
            case _Type.CERTIFICATE if from_client:
                self._emit_certificates(side, message.body, quality, True, seen)
                side.close()
            case _Type.CERTIFICATE if self._server is not None and not self._chain_emitted:
                self._chain_emitted = True
                self._emit_certificates(side, message.body, quality, False, seen)
            case _Type.CERTIFICATE_REQUEST if not from_client:
                self._client_certificate_due = True
            case _Type.SERVER_HELLO_DONE if not from_client:
                side.close()
            case _Type.CLIENT_KEY_EXCHANGE if from_client:
                side.close()
            case _Type.CLIENT_HELLO | _Type.SERVER_HELLO | _Type.CERTIFICATE:
                self.misplaced += 1

    def _emit_hello(
        self, side: _Direction, body: bytes, quality: str, seen: list[Observation]
    ) -> None:
        cut = quality in _CUT
        try:
            hello = (
                messages.parse_client_hello(body, cut=True) if cut else self._hellos.client(body)
            )
        except Malformed:
            self.malformed += not cut
            side.restart()
            return
        self.hello = hello
        self._hellos_held += hello.memory
        self._session_id = session_id(body)
        seen.append(HelloSeen(side.last_ns, hello, quality, side.start_seq, self._signature))

    def _take_server_hello(self, side: _Direction, body: bytes) -> None:
        try:
            server = self._hellos.server(body)
            if server.trailing:
                # Random bytes pass easily for one: its lengths must agree to the byte.
                raise Malformed("bytes behind the extensions")
        except Malformed:
            self.malformed += 1
            side.restart()
            return
        self._server = server
        self._hellos_held += server.memory
        self._server_head = body[:HEAD_BYTES]
        self._session = SessionSeen(side.last_ns, server, None, None)
        version = server.selected_version or server.legacy_version
        if server.is_hello_retry_request or version >= TLS13:
            # All that follows is encrypted, or was told already.
            side.close()

    def _emit_certificates(
        self,
        side: _Direction,
        body: bytes,
        quality: str,
        from_client: bool,
        seen: list[Observation],
    ) -> None:
        cut = quality in _CUT
        try:
            message = messages.parse_certificate(body, cut=cut)
        except Malformed:
            self.malformed += not cut
            return
        if not message.certificates:
            return
        certificates = CertificatesSeen(
            side.last_ns,
            message.certificates,
            None if cut else message.chain_length,
            from_client,
            quality,
            self.hello,
        )
        if self._session is not None:
            self._later += (certificates,)
        else:
            seen.append(certificates)

    def _give_up(self, sender: int) -> None:
        """What this end sent is no TLS; a hello may still come (after STARTTLS)."""
        self.malformed += 1
        side = self._sides[sender]
        told = self.hello if sender == self.client else self._server
        if told is None:
            side.restart()
        else:
            side.close()

    def _close_client_side(self) -> None:
        """Behind the server's clear text a client has nothing to tell but a certificate."""
        if self.hello is None or self._client_certificate_due:
            return
        if self._sides[1 - self.client].closed:
            self._sides[self.client].close()

    def _client_side_waits(self) -> bool:
        """The ClientHello may still come: its segments were seen but not all of them."""
        if self.client == abi.CLIENT_UNKNOWN:
            return False
        return self._sides[self.client].waiting

    def _release(self, session: SessionSeen, seen: list[Observation]) -> None:
        """Tell the session that waited for its ClientHello, and the certificates behind it."""
        server = session.hello
        resumed = is_resumed(server, self._echoed)
        seen.append(SessionSeen(session.time_ns, server, self.hello, resumed))
        seen += [late._replace(client=self.hello) for late in self._later]
        self._session = None
        self._later = ()

    def _echoed(self) -> bool | None:
        """Whether the server's session id is the client's; None if that is not known."""
        if self.hello is None:
            return None
        echoed = session_id(self._server_head)
        if self._find_suppressed is None:
            return bool(echoed) and echoed == self._session_id
        hidden = self._find_suppressed()
        return None if hidden is None else hidden.has_session_id(echoed)
