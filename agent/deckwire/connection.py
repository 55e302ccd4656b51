"""One connection's TLS: from sampled segments to what its handshake showed. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from deckwire import abi
from deckwire.handshake import Handshake
from deckwire.limits import EARLY_PIECES, STREAM_BYTES
from deckwire.reassembly import Stream
from deckwire.sample import SegmentSample
from deckwire.tls import messages
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import ClientHello, ServerHello
from deckwire.tls.records import HandshakeMessage, RecordReader, State, looks_like_hello

TLS13 = 0x0304
_SEQ_MASK = 0xFFFF_FFFF


class _Type(IntEnum):
    """Handshake messages that decide how a connection goes on (RFC 5246, 7.4)."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CLIENT_KEY_EXCHANGE = 16


@dataclass(frozen=True, slots=True)
class HelloSeen:
    """A ClientHello, or what there was of it."""

    time_ns: int
    hello: ClientHello
    quality: str
    """complete, reassembled, overlap, truncated or gap."""
    offset: int | None
    """Bytes that the client sent before TLS began; None if its SYN was not seen."""


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """The first ServerHello, with the ClientHello that it answers if that is known."""

    time_ns: int
    hello: ServerHello
    client: ClientHello | None


@dataclass(frozen=True, slots=True)
class CertificatesSeen:
    """A clear-text Certificate message with at least one certificate."""

    time_ns: int
    chain: tuple[bytes, ...]
    chain_length: int
    from_client: bool
    quality: str
    client: ClientHello | None


Observation = HelloSeen | SessionSeen | CertificatesSeen


class _Direction:
    """What one end sent: finds where its TLS begins and reads messages from there."""

    __slots__ = (
        "_early",
        "_early_bytes",
        "_pending",
        "_stream",
        "closed",
        "held",
        "last_ns",
        "reader",
        "start_seq",
    )

    def __init__(self) -> None:
        self._early: list[SegmentSample] = []  # segments before the start is known
        self._early_bytes = 0
        self._pending = False  # bytes of a message not complete yet were fed
        self._stream: Stream | None = None
        self.reader = RecordReader()
        self.start_seq: int | None = None
        self.closed = False
        self.held = 0
        self.last_ns = 0

    def add(self, sample: SegmentSample) -> list[tuple[HandshakeMessage, str]]:
        """Take a segment; the messages that it completes, each with its quality."""
        if self.closed:
            return []
        self.last_ns = sample.time_ns
        self.held += len(sample.payload)
        if self._stream is None:
            if sample.start_seq is None:
                self._keep(sample)
                return []
            self.start_seq = sample.start_seq
            self._stream = Stream(sample.start_seq)
            for early in self._early:
                self._stream.add(early.seq, early.payload, early.claimed)
            self._early = []
        waited = self._stream.gap
        self._stream.add(sample.seq, sample.payload, sample.claimed)
        return self._read(waited and not self._stream.gap)

    def close(self) -> None:
        """Nothing more is wanted of this direction: frees what it holds."""
        self.closed = True
        self._early = []
        self._stream = None
        self.held = 0

    @property
    def waiting(self) -> bool:
        """Bytes were seen that are not told yet."""
        return not self.closed and self.held > 0

    def unfinished(self) -> tuple[int, bytes, str] | None:
        """At the end: the message that has begun but not ended, as (type, body, quality)."""
        message = self.reader.unfinished()
        if message is None or self._stream is None:
            return None
        # Bytes behind a hole, or a hole that the capture itself made, are not the peer's cut.
        lost = self._stream.gap or self._stream.cut
        return message.type, message.body, "gap" if lost else "truncated"

    def orphaned_hello(self) -> bytes | None:
        """At the end: a segment that begins a hello although the start was never in order."""
        return next((s.payload for s in self._early if looks_like_hello(s.payload[:6])), None)

    def _keep(self, sample: SegmentSample) -> None:
        if (
            len(self._early) < EARLY_PIECES
            and self._early_bytes + len(sample.payload) <= STREAM_BYTES
        ):
            self._early.append(sample)
            self._early_bytes += len(sample.payload)

    def _read(self, released: bool) -> list[tuple[HandshakeMessage, str]]:
        assert self._stream is not None
        data = self._stream.read()
        if not data:
            return []
        found = self.reader.feed(data)
        told: list[tuple[HandshakeMessage, str]] = []
        for number, message in enumerate(found):
            if self._stream.overlap:
                quality = "overlap"
            elif message.records > 1 or released or (number == 0 and self._pending):
                quality = "reassembled"
            else:
                quality = "complete"
            told.append((message, quality))
        self._pending = self.reader.pending
        return told


@dataclass(slots=True)
class Connection:
    """One connection from its first TLS sample until all that is clear has been told."""

    key: bytes
    born_ns: int
    client: int
    """0, 1 or abi.CLIENT_UNKNOWN until a hello tells."""
    handshake: Handshake
    stray: bool
    hello: ClientHello | None = None
    hello_told: bool = False
    misplaced: int = 0
    """Messages where none of their kind can be: told to nobody."""
    malformed: int = 0
    """Messages whose bodies are not what they should be."""
    _sides: tuple[_Direction, _Direction] = field(
        default_factory=lambda: (_Direction(), _Direction())
    )
    _server: ServerHello | None = None
    _session: SessionSeen | None = None
    _later: list[CertificatesSeen] = field(default_factory=list)
    _client_certificate_due: bool = False

    @property
    def held(self) -> int:
        """Payload bytes that it holds."""
        return self._sides[0].held + self._sides[1].held

    @property
    def done(self) -> bool:
        """All that can be told has been told."""
        return self._sides[0].closed and self._sides[1].closed

    def add(self, sample: SegmentSample) -> list[Observation]:
        """Take a segment of either direction."""
        if self.client == abi.CLIENT_UNKNOWN:
            self.client = sample.client
        side = self._sides[sample.sender]
        seen: list[Observation] = []
        for message, quality in side.add(sample):
            self._take(sample, message, quality, seen)
        if side.reader.state is not State.NEED_MORE:
            side.close()
        if self.hello_told or not self._client_side_waits():
            self._release(seen)
        return seen

    def finish(self) -> list[Observation]:
        """No more will come: what was cut off is told as far as it goes."""
        seen: list[Observation] = []
        for sender, side in enumerate(self._sides):
            cut = side.unfinished()
            if cut is None:
                continue
            kind, body, quality = cut
            from_client = sender == self.client
            if kind == _Type.CLIENT_HELLO and from_client and not self.hello_told:
                self._tell_hello(side, body, quality, seen)
            elif kind == _Type.CERTIFICATE and self._server is not None:
                self._tell_certificates(side.last_ns, body, quality, from_client, seen)
        self._release(seen)
        for side in self._sides:
            side.close()
        return seen

    def _take(
        self,
        sample: SegmentSample,
        message: HandshakeMessage,
        quality: str,
        seen: list[Observation],
    ) -> None:
        if self.client == abi.CLIENT_UNKNOWN and message.type in (
            _Type.CLIENT_HELLO,
            _Type.SERVER_HELLO,
        ):
            is_client = message.type == _Type.CLIENT_HELLO
            self.client = sample.sender if is_client else 1 - sample.sender
        from_client = sample.sender == self.client
        side = self._sides[sample.sender]
        match message.type:
            case _Type.CLIENT_HELLO if from_client:
                if not self.hello_told:
                    self._tell_hello(side, message.body, quality, seen)
            case _Type.SERVER_HELLO if not from_client:
                if self._server is None:
                    self._take_server_hello(sample.time_ns, message.body)
            case _Type.CERTIFICATE if self._server is not None or from_client:
                self._tell_certificates(sample.time_ns, message.body, quality, from_client, seen)
                if from_client:
                    side.close()
            case _Type.CERTIFICATE_REQUEST if not from_client:
                self._client_certificate_due = True
            case _Type.SERVER_HELLO_DONE if not from_client:
                side.close()
                if self.hello_told and not self._client_certificate_due:
                    self._sides[self.client].close()
            case _Type.CLIENT_KEY_EXCHANGE if from_client:
                side.close()
            case _Type.CLIENT_HELLO | _Type.SERVER_HELLO | _Type.CERTIFICATE:
                self.misplaced += 1

    def _tell_hello(
        self, side: _Direction, body: bytes, quality: str, seen: list[Observation]
    ) -> None:
        try:
            hello = messages.parse_client_hello(body, cut=quality in ("truncated", "gap"))
        except Malformed:
            self.malformed += 1
            side.close()
            return
        self.hello = hello
        self.hello_told = True
        offset = None
        if self.handshake.syn is not None and side.start_seq is not None:
            offset = (side.start_seq - self.handshake.syn.seq - 1) & _SEQ_MASK
        seen.append(HelloSeen(side.last_ns, hello, quality, offset))

    def _take_server_hello(self, time_ns: int, body: bytes) -> None:
        side = self._sides[1 - self.client]
        try:
            self._server = messages.parse_server_hello(body)
        except Malformed:
            self.malformed += 1
            side.close()
            return
        self._session = SessionSeen(time_ns, self._server, None)
        version = self._server.selected_version or self._server.legacy_version
        if self._server.is_hello_retry_request or version >= TLS13:
            # All that follows is encrypted, or was told already.
            side.close()
            if self.hello_told:
                self._sides[self.client].close()

    def _tell_certificates(
        self,
        time_ns: int,
        body: bytes,
        quality: str,
        from_client: bool,
        seen: list[Observation],
    ) -> None:
        cut = quality in ("truncated", "gap")
        try:
            message = messages.parse_certificate(body, cut=cut)
        except Malformed:
            self.malformed += 1
            return
        if not message.certificates:
            return
        certificates = CertificatesSeen(
            time_ns,
            message.certificates,
            message.chain_length,
            from_client,
            quality,
            self.hello,
        )
        if self._session is not None:
            self._later.append(certificates)
        else:
            seen.append(certificates)

    def _client_side_waits(self) -> bool:
        """The ClientHello may still come: its segments were seen but not all of them."""
        if self.client == abi.CLIENT_UNKNOWN:
            return False
        return self._sides[self.client].waiting

    def _release(self, seen: list[Observation]) -> None:
        """Tell the session that waited for its ClientHello, and the certificates behind it."""
        if self._session is None:
            return
        session, self._session = self._session, None
        seen.append(SessionSeen(session.time_ns, session.hello, self.hello))
        for late in self._later:
            seen.append(
                CertificatesSeen(
                    late.time_ns,
                    late.chain,
                    late.chain_length,
                    late.from_client,
                    late.quality,
                    self.hello,
                )
            )
        self._later = []
