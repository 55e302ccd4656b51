"""Read TLS handshake messages from the clear-text bytes of one direction; no I/O, no clock."""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import Final, NamedTuple

from deckwire.limits import HANDSHAKE_BYTES, HANDSHAKE_MESSAGES, RECORD_BYTES, RECORDS
from deckwire.tls.code_points import ContentType, HandshakeType
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import HELLO_RETRY_REQUEST
from deckwire.tls.ssl2 import SSL2_HEADER_BYTES, begins_ssl2, ssl2_length

RECORD_HEADER_BYTES: Final = 5
HANDSHAKE_HEADER_BYTES: Final = 4

_RECORD_HEADER = Struct(">BBBH")
"""Type, version major and minor, length (RFC 8446, 5.1)."""
_MESSAGE_HEADER = Struct(">I")
_BOTH_HEADERS = Struct(">BBBHI")
_BOTH_HEADERS_BYTES = _BOTH_HEADERS.size
SPEC_CHANGE = bytes.fromhex("140303000101")
"""The usual record of a ChangeCipherSpec."""
HELLO_PREFIX_BYTES = RECORD_HEADER_BYTES + 1
"""Bytes after which looks_like_hello always returns True or False."""
BEGINNING_BYTES = 64
"""Bytes that begins_tls looks at, at most."""

_BEFORE_HELLO = {
    int(ContentType.HANDSHAKE): (0,),
    int(ContentType.ALERT): (2,),
    int(ContentType.CHANGE_CIPHER_SPEC): (0, 1),
}
"""Lengths of records that may come before the first hello, by their type."""
_HELLOS: Final = frozenset((HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO))
_CHOOSING: Final = frozenset((HandshakeType.SERVER_HELLO, HandshakeType.CLIENT_KEY_EXCHANGE))
"""Messages after which a ChangeCipherSpec of their sender begins encryption."""
_HANDSHAKE: Final = int(ContentType.HANDSHAKE)
"""To compare with: a member of an IntEnum costs as much as the rest of the comparison."""


class State(Enum):
    """Whether a RecordReader can use further bytes."""

    NEED_MORE = "need more"
    CLOSED = "closed"
    """The clear-text flight ended with ChangeCipherSpec or application data."""
    MALFORMED = "malformed"


class HandshakeMessage(NamedTuple):
    """A complete handshake message."""

    type: int
    body: bytes
    """The message without its header of four bytes."""
    records: int
    """Number of records that hold a part of the message, at least 1."""


class UnfinishedMessage(NamedTuple):
    """A handshake message whose end has not arrived."""

    type: int
    body: bytes
    """The bytes that have arrived, possibly b""."""
    records: int


def looks_like_hello(
    prefix: bytes,
    types: tuple[int, ...] = (HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO),
) -> bool | None:
    """Return whether bytes begin a record that begins with a hello; None if more are needed.

    `types` are the messages that count as a hello. After True, `prefix[5]` is the type found.
    """
    if prefix[:1] not in {b"", b"\x16"}:
        return False
    if prefix[1:2] not in {b"", b"\x03"}:  # the minor version counts for nobody
        return False
    if len(prefix) >= RECORD_HEADER_BYTES:
        length = int.from_bytes(prefix[3:5], "big")
        if not 1 <= length <= RECORD_BYTES:  # a message may be cut into records anywhere
            return False
    if len(prefix) < HELLO_PREFIX_BYTES:
        return None
    return prefix[5] in types


def begins_tls(data: bytes) -> bool | None:
    """Whether a stream that begins with these bytes begins with TLS; None while both can be.

    Alerts, ChangeCipherSpec and empty handshake records may come before the hello. After more of
    them than BEGINNING_BYTES hold, it is TLS. A hello of SSL 2.0 begins it too.
    """
    ssl2 = begins_ssl2(data)
    if ssl2 is not False:
        return ssl2
    at = 0
    while at < BEGINNING_BYTES - HELLO_PREFIX_BYTES:
        prefix = data[at : at + HELLO_PREFIX_BYTES]
        hello = looks_like_hello(prefix)
        if hello is not False:
            return hello
        if prefix[0] not in _BEFORE_HELLO or prefix[1:2] not in {b"", b"\x03"}:
            return False
        if len(prefix) < RECORD_HEADER_BYTES:
            return None
        length = int.from_bytes(prefix[3:5], "big")
        if length not in _BEFORE_HELLO[prefix[0]]:
            return False
        at += RECORD_HEADER_BYTES + length
    return True


def whole_messages(data: bytes) -> list[HandshakeMessage]:
    """Return the messages if `data` is whole records with one message each, else none.

    A new RecordReader that is fed with `data` returns the same messages.
    """
    messages: list[HandshakeMessage] = []
    at, end = 0, len(data)
    while at + _BOTH_HEADERS_BYTES <= end and len(messages) < HANDSHAKE_MESSAGES:
        kind, major, _, record_length, word = _BOTH_HEADERS.unpack_from(data, at)
        body = at + _BOTH_HEADERS_BYTES
        at += RECORD_HEADER_BYTES + record_length
        if kind != _HANDSHAKE or major != 3 or record_length > RECORD_BYTES or at > end:
            return []
        if record_length != HANDSHAKE_HEADER_BYTES + (word & 0xFF_FFFF):
            return []
        # This makes a HandshakeMessage in half the time of a call.
        messages.append(tuple.__new__(HandshakeMessage, (word >> 24, data[body:at], 1)))
    return messages if at == end else []


class RecordReader:
    """Reads one direction of a connection from its first TLS record on.

    A message is returned as soon as its last byte arrives, even if its record is not complete.
    Alerts and heartbeats are skipped, also between the pieces of a message, as servers do.
    ChangeCipherSpec is skipped where clear text may follow: before the hello, inside it, and after
    a HelloRetryRequest. A hello of SSL 2.0 may come first, in its own record format.

    Memory is bounded by HANDSHAKE_BYTES and one record. RECORDS and HANDSHAKE_MESSAGES bound the
    time that a peer can take with many small ones.
    """

    __slots__ = (
        "_chosen",
        "_handshake",
        "_left",
        "_messages",
        "_partial",
        "_records",
        "_spanned",
        "_spec_changed",
        "_type",
        "reason",
        "state",
        "unread",
    )

    state: State
    reason: str
    """Why the state is MALFORMED, else ""."""
    unread: int
    """Bytes at the end of those it was fed with that belong to no record it has read."""

    def __init__(self) -> None:
        self._partial = bytearray()  # the first bytes of a record header
        self._type = 0  # content type of the open record
        self._left = 0  # bytes of the open record that have not arrived
        self._handshake = bytearray()  # the unfinished message, from its first byte
        self._spanned = 0  # number of records that hold a part of that message
        self._records = 0
        self._messages = 0
        self._chosen = False  # what follows a ChangeCipherSpec is encrypted
        self._spec_changed = False  # one was skipped, and nothing has come after it
        self.state = State.NEED_MORE
        self.reason = ""
        self.unread = 0

    def feed(self, data: bytes) -> list[HandshakeMessage]:
        """Take the next bytes and return the messages that they complete.

        It never raises. In a state other than NEED_MORE further bytes are ignored. Messages that
        were complete before the state changed are still returned.
        """
        messages: list[HandshakeMessage] = []
        at = 0
        try:
            while at < len(data) and self.state is State.NEED_MORE:
                if self._left:
                    chunk = data[at : at + self._left]
                    at += len(chunk)
                    self._left -= len(chunk)
                    self.unread = len(data) - at
                    self._take_content(chunk, messages)
                    continue
                self.unread = len(self._partial) + len(data) - at
                wanted = RECORD_HEADER_BYTES - len(self._partial)
                if wanted == RECORD_HEADER_BYTES <= len(data) - at:
                    # Nearly every header arrives in one piece.
                    self._open_record(data, at)
                else:
                    self._partial += data[at : at + wanted]
                    if len(self._partial) == RECORD_HEADER_BYTES:
                        header = bytes(self._partial)
                        self._partial.clear()
                        self._open_record(header, 0)
                at += wanted
        except Malformed as error:
            self.state = State.MALFORMED
            self.reason = error.reason
        if self.state is State.NEED_MORE:
            self.unread = len(self._partial)
        return messages

    @property
    def pending(self) -> bool:
        """Return whether bytes of the next message have arrived, at least of its header."""
        return bool(self._handshake)

    @property
    def held(self) -> int:
        """Return how many bytes of memory it keeps, about."""
        return len(self._handshake) + len(self._partial)

    def unfinished(self) -> UnfinishedMessage | None:
        """Return the message that has begun but not ended; None before its header is complete."""
        if self._type == HandshakeType.SSL2_CLIENT_HELLO:
            return None
        if len(self._handshake) < HANDSHAKE_HEADER_BYTES:
            return None
        kind, _ = _message_header(self._handshake, 0)
        body = bytes(self._handshake[HANDSHAKE_HEADER_BYTES:])
        return UnfinishedMessage(kind, body, self._spanned)

    def _open_record(self, data: bytes, at: int) -> None:
        # With struct, not construct: record headers are by far the most frequent structure.
        kind, major, minor, length = _RECORD_HEADER.unpack_from(data, at)
        if not self._records and begins_ssl2(data[at : at + RECORD_HEADER_BYTES]):
            self._open_ssl2(data[at : at + RECORD_HEADER_BYTES])
            return
        if major != 3 or length > RECORD_BYTES:
            reason = "record too long" if major == 3 else f"record version {major}.{minor}"
            raise Malformed(reason)
        self._records += 1
        if self._records > RECORDS:
            raise Malformed("too many records")
        match kind:
            case ContentType.HANDSHAKE:
                # An empty one is of no use, but TLS 1.2 allows it (RFC 5246, 6.2.1).
                if length:
                    self._spanned = self._spanned + 1 if self._handshake else 1
            case ContentType.ALERT:
                if length != 2:
                    raise Malformed("alert of a wrong length")
            case ContentType.CHANGE_CIPHER_SPEC if not self._chosen and length <= 1:
                self._spec_changed = not self._handshake
            case ContentType.CHANGE_CIPHER_SPEC | ContentType.APPLICATION_DATA:
                if self._handshake:
                    raise Malformed("encryption begins inside a handshake message")
                self.state = State.CLOSED
            case ContentType.HEARTBEAT:
                pass
            case other:
                raise Malformed(f"content type {other}")
        self._type = kind
        self._left = length

    def _open_ssl2(self, header: bytes) -> None:
        self._records = self._spanned = 1
        self._type = HandshakeType.SSL2_CLIENT_HELLO
        self._handshake += header[SSL2_HEADER_BYTES:]
        self._left = ssl2_length(header) - len(self._handshake)

    def _take_content(self, chunk: bytes, messages: list[HandshakeMessage]) -> None:
        if self._type == HandshakeType.SSL2_CLIENT_HELLO:
            self._handshake += chunk
            if not self._left:
                body = bytes(self._handshake)
                self._handshake.clear()
                messages.append(HandshakeMessage(self._type, body, 1))
            return
        if self._type == ContentType.HANDSHAKE:
            if self._spec_changed:
                self._spec_changed = False
                if chunk[0] not in _HELLOS:
                    # A Finished, which is encrypted.
                    self.state = State.CLOSED
                    return
            if self._handshake:
                self._handshake += chunk
                del self._handshake[: self._take_messages(self._handshake, messages)]
            else:
                # Most messages are whole: they are read in place, and only the rest is kept.
                self._handshake += chunk[self._take_messages(chunk, messages) :]

    def _take_messages(self, data: bytes | bytearray, messages: list[HandshakeMessage]) -> int:
        """Append the whole messages in `data` to `messages`; return where the rest begins."""
        at = 0
        while len(data) - at >= HANDSHAKE_HEADER_BYTES:
            kind, length = _message_header(data, at)
            body = at + HANDSHAKE_HEADER_BYTES
            if length > HANDSHAKE_BYTES:
                self._handshake.clear()
                raise Malformed("handshake message too long")
            if len(data) - body < length:
                break
            self._messages += 1
            if self._messages > HANDSHAKE_MESSAGES:
                self._handshake.clear()
                raise Malformed("too many handshake messages")
            at = body + length
            if kind in _CHOOSING and data[body + 2 : body + 34] != HELLO_RETRY_REQUEST:
                self._chosen = True
            messages.append(HandshakeMessage(kind, bytes(data[body:at]), self._spanned))
            self._spanned = 1
        return at


def _message_header(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return type and length of the message that begins at `at` (RFC 8446, 4)."""
    word: int = _MESSAGE_HEADER.unpack_from(data, at)[0]
    return word >> 24, word & 0xFF_FFFF
