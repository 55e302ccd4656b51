"""One connection's TLS: from sampled segments to what its handshake showed. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable

from deckwire.abi import structs as abi
from deckwire.abi.samples import SegmentSample, SuppressedHello
from deckwire.connections.direction import Direction
from deckwire.connections.observations import (
    CertificatesSeen,
    HelloSeen,
    Observation,
    SessionSeen,
)
from deckwire.connections.transitions import (
    CERTIFICATE,
    CLIENT,
    CLIENT_HELLO,
    MISPLACED_TYPES,
    SERVER,
    SERVER_HELLO,
    Stage,
    Step,
)
from deckwire.tcp.handshake import Handshake
from deckwire.tls import messages
from deckwire.tls.errors import Malformed
from deckwire.tls.hello_cache import HEAD_BYTES, HelloCache, session_id
from deckwire.tls.messages import ClientHello, ServerHello
from deckwire.tls.records import HandshakeMessage, State
from deckwire.tls.resumption import is_resumed

_TLS13 = 0x0304
_SEQ_MASK = 0xFFFF_FFFF
_CLOSED, _MALFORMED = State.CLOSED, State.MALFORMED
_CUT = ("truncated", "gap")
"""Qualities of messages that lack their end."""
_Seen = list[Observation]
_REPORTED_CUT = (CLIENT_HELLO, CERTIFICATE)
"""Messages that are reported although their end is missing."""


class Connection:
    """One connection from its first TLS sample until all clear text has been reported.

    The Directions give messages. The table of `transitions` says what each leads to.
    """

    # Defaults of the class: most connections set few of them.
    hello: ClientHello | None = None
    """The ClientHello, or an equal one that an earlier connection sent."""
    misplaced = 0
    """Messages sent where none of their kind can be; no event is made of them."""
    malformed = 0
    """Messages whose bodies are malformed, and streams whose records are."""
    _client_stage = Stage.HELLO_DUE
    _server_stage = Stage.HELLO_DUE
    _client_chain_due = False
    """The server has asked for the client's certificate."""
    _hellos_held = 0
    """Bytes of memory of both hellos, shared with other connections or not."""
    _client_head = b""
    """First bytes of the ClientHello, with its session id; `hello` may be an equal one."""
    _server_head = b""
    """First bytes of the ServerHello, with its session id."""
    _session: tuple[int, ServerHello] | None = None
    """Time and ServerHello of a session that waits for the ClientHello, which may still come."""
    _later: tuple[CertificatesSeen, ...] = ()
    """Certificates that came after that session, and wait with it."""
    _signature = 0
    """The kernel's hash of the hello in the sample that is being taken."""
    _find_suppressed: Callable[[], SuppressedHello | None] | None = None
    """Reads what the kernel keeps of the ClientHello, if there was no sample of it."""

    def __init__(
        self,
        key: bytes,
        born_ns: int,
        client: int,
        handshake: Handshake | Callable[[], Handshake],
        hellos: HelloCache,
    ) -> None:
        """`handshake` may be a function that finds it: called once, when it is needed."""
        self.key = key
        self.born_ns = born_ns
        self.client = client
        """0, 1 or abi.CLIENT_UNKNOWN until a hello shows it."""
        self._handshake = handshake
        self._hellos = hellos
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
    def held(self) -> int:
        """Bytes of memory that its payload and its parsed hellos take, about."""
        first, second = self.sides
        if first.closed and second.closed:
            return 0
        return first.held + second.held + self._hellos_held

    @property
    def done(self) -> bool:
        """Whether everything that can be reported has been."""
        return self.sides[0].closed and self.sides[1].closed

    def recall(
        self, hello: ClientHello | None, find_suppressed: Callable[[], SuppressedHello | None]
    ) -> None:
        """Use a ClientHello of which the kernel suppressed the sample.

        `hello` is an equal one, or None if it was evicted. `find_suppressed` is called for what
        hardly any connection needs: to compare session ids, and to find where the client's bytes
        after the hello begin. It may find nothing.
        """
        self.hello = hello
        self._find_suppressed = find_suppressed
        if hello is not None:
            self._client_stage = Stage.HELLO_TAKEN

    def add(self, sample: SegmentSample) -> list[Observation]:
        """Take a segment of either direction; what it shows."""
        self._signature = 0 if sample.hello_suppressed else sample.hello
        if self.client == abi.CLIENT_UNKNOWN:
            self.client = sample.client
        sender, start_seq = sample.sender, sample.start_seq
        side = self.sides[sender]
        if not side.last_ns and (start_seq is None or self._find_suppressed is not None):
            self._orient(side, sample)
        if start_seq is not None and side.start_seq not in (None, start_seq):
            # The kernel has seen that what began before was no TLS.
            self._give_up(sender)
        seen: list[Observation] = []
        for message, quality in side.add(sample):
            self._take(sender, message, quality, seen)
        if not side.closed:
            state = side.state
            if state is _CLOSED or (sample.ends and not side.behind_hole):
                side.close()
            elif state is _MALFORMED:
                self._give_up(sender)
        self._close_client_side()
        if self._session is not None and (self.hello is not None or not self._client_hello_due()):
            self._release(*self._session, seen)
        return seen

    def finish(self) -> list[Observation]:
        """End the connection; what was cut off is reported as far as it goes."""
        self._signature = 0
        seen: list[Observation] = []
        for sender in (self.client & 1, 1 - (self.client & 1)):
            side = self.sides[sender]
            for message, quality in side.salvage():
                self._take(sender, message, quality, seen)
            unfinished = side.unfinished()
            if unfinished is not None and unfinished[0].type in _REPORTED_CUT:
                self._take(sender, *unfinished, seen)
        if self._session is not None:
            self._release(*self._session, seen)
        for side in self.sides:
            side.close()
        return seen

    # --- where a direction begins ---

    def _orient(self, side: Direction, sample: SegmentSample) -> None:
        """Before the first segment of a direction: find where its TLS may begin, if asked."""
        if self._find_suppressed is not None and sample.sender == self.client:
            suppressed = self._find_suppressed()
            if suppressed is not None:
                side.begin(suppressed.end_seq)
        elif sample.start_seq is None and self.client != abi.CLIENT_UNKNOWN:
            side.anchor(self._first_seq(sample.sender))

    def _first_seq(self, sender: int) -> int | None:
        """Sequence number of an end's first byte; None if its handshake was not seen."""
        syn, synack = self.handshake.syn, self.handshake.synack
        if sender != self.client:
            return None if synack is None else (synack.seq + 1) & _SEQ_MASK
        if syn is not None:
            return (syn.seq + 1) & _SEQ_MASK
        return None if synack is None else synack.ack

    # --- messages ---

    def _take(self, sender: int, message: HandshakeMessage, quality: str, seen: _Seen) -> None:
        """Do what the table says of a message."""
        if self.client == abi.CLIENT_UNKNOWN:
            if message.type == CLIENT_HELLO:
                self.client = sender
            elif message.type == SERVER_HELLO:
                self.client = 1 - sender
        from_client = sender == self.client
        row = CLIENT[self._client_stage] if from_client else SERVER[self._server_stage]
        move = row.get(message.type)
        if move is None:
            self.misplaced += message.type in MISPLACED_TYPES
            return
        step, following = move
        if _STEPS[step](self, self.sides[sender], message.body, quality, seen):
            if from_client:
                self._client_stage = following
            else:
                self._server_stage = following

    def _pass(self, _side: Direction, _body: bytes, _quality: str, _seen: _Seen) -> bool:
        return True

    def _take_client_hello(self, side: Direction, body: bytes, quality: str, seen: _Seen) -> bool:
        """Report the ClientHello; False if it is malformed."""
        cut = quality in _CUT
        try:
            hello = (
                messages.parse_client_hello(body, cut=True) if cut else self._hellos.client(body)
            )
        except Malformed:
            self.malformed += not cut
            side.restart()
            return False
        self.hello = hello
        self._hellos_held += hello.memory
        self._client_head = body[:HEAD_BYTES]
        seen.append(HelloSeen(side.last_ns, hello, quality, side.start_seq, self._signature))
        return True

    def _take_server_hello(self, side: Direction, body: bytes, _quality: str, _seen: _Seen) -> bool:
        """Keep the session until the ClientHello is there; False if the message is malformed."""
        try:
            server = self._hellos.server(body)
            if server.trailing:
                # Random bytes pass easily for one: its lengths must agree to the byte.
                raise Malformed("bytes after the extensions")
        except Malformed:
            self.malformed += 1
            side.restart()
            return False
        self._hellos_held += server.memory
        self._server_head = body[:HEAD_BYTES]
        self._session = side.last_ns, server
        version = server.selected_version or server.legacy_version
        if server.is_hello_retry_request or version >= _TLS13:
            # What follows is encrypted, or repeats what has been reported.
            side.close()
        return True

    def _take_server_chain(self, side: Direction, body: bytes, quality: str, seen: _Seen) -> bool:
        self._take_chain(side, body, quality, False, seen)
        return True

    def _take_client_chain(self, side: Direction, body: bytes, quality: str, seen: _Seen) -> bool:
        self._take_chain(side, body, quality, True, seen)
        side.close()
        return True

    def _expect_client_chain(
        self, _side: Direction, _body: bytes, _quality: str, _seen: _Seen
    ) -> bool:
        self._client_chain_due = True
        return True

    def _close(self, side: Direction, _body: bytes, _quality: str, _seen: _Seen) -> bool:
        side.close()
        return True

    def _take_chain(
        self, side: Direction, body: bytes, quality: str, from_client: bool, seen: _Seen
    ) -> None:
        """Report the certificates of a message, after the session that they belong to."""
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

    # --- what is still due ---

    def _give_up(self, sender: int) -> None:
        """Stop reading an end's bytes as TLS; its hello may still come (after STARTTLS)."""
        self.malformed += 1
        side = self.sides[sender]
        stage = self._client_stage if sender == self.client else self._server_stage
        if stage is Stage.HELLO_DUE:
            side.restart()
        else:
            side.close()

    def _close_client_side(self) -> None:
        """After the server's clear text, only a certificate of the client is of interest."""
        if self.hello is None or self._client_chain_due:
            return
        if self.sides[1 - self.client].closed:
            self.sides[self.client].close()

    def _client_hello_due(self) -> bool:
        """Whether the ClientHello may still come: some of its segments were seen, not all."""
        if self.client == abi.CLIENT_UNKNOWN:
            return False
        return self.sides[self.client].waiting

    def _release(self, time_ns: int, server: ServerHello, seen: _Seen) -> None:
        """Report the session and its certificates, with the ClientHello if that has come."""
        resumed = is_resumed(server, self._is_id_echoed)
        seen.append(SessionSeen(time_ns, server, self.hello, resumed))
        self._session = None
        if self._later:
            seen += [late._replace(client=self.hello) for late in self._later]
            self._later = ()

    def _is_id_echoed(self) -> bool | None:
        """Whether the server's session id is the client's; None if that is not known."""
        if self.hello is None:
            return None
        echoed = session_id(self._server_head)
        if self._find_suppressed is None:
            return bool(echoed) and echoed == session_id(self._client_head)
        suppressed = self._find_suppressed()
        return None if suppressed is None else suppressed.has_session_id(echoed)


_STEPS: dict[Step, Callable[[Connection, Direction, bytes, str, _Seen], bool]] = {
    Step.PASS: Connection._pass,
    Step.TAKE_CLIENT_HELLO: Connection._take_client_hello,
    Step.TAKE_SERVER_HELLO: Connection._take_server_hello,
    Step.TAKE_SERVER_CHAIN: Connection._take_server_chain,
    Step.TAKE_CLIENT_CHAIN: Connection._take_client_chain,
    Step.EXPECT_CLIENT_CHAIN: Connection._expect_client_chain,
    Step.CLOSE: Connection._close,
}
"""What does each step: with the side, the message's body and quality, and the list of what was
seen. False leaves the stage as it was."""
