"""From the clear-text bytes of one direction to TLS handshake messages; no I/O, no clock."""

from __future__ import annotations

from enum import Enum, IntEnum
from struct import Struct
from typing import NamedTuple

from deckwire.limits import HANDSHAKE_BYTES, HANDSHAKE_MESSAGES, RECORD_BYTES, RECORDS
from deckwire.tls.errors import Malformed

RECORD_HEADER_BYTES = 5
HANDSHAKE_HEADER_BYTES = 4

_RECORD_HEADER = Struct(">BBBH")
"""RFC 8446, 5.1: type, version major and minor, length."""
_MESSAGE_HEADER = Struct(">I")
_BOTH_HEADERS = Struct(">BBBHI")
HELLO_PREFIX_BYTES = RECORD_HEADER_BYTES + 1
"""Bytes after which looks_like_hello always knows."""


class ContentType(IntEnum):
    """Record types that can stand in a clear-text flight, and the two that end it."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    HEARTBEAT = 24


_HANDSHAKE = int(ContentType.HANDSHAKE)
"""To compare with: an IntEnum's member costs as much as the rest of the comparison."""


class HandshakeType(IntEnum):
    """Handshake messages that are parsed."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    CERTIFICATE = 11


class State(Enum):
    """What a RecordReader can do with further bytes."""

    NEED_MORE = "need more"
    CLOSED = "closed"
    """The clear-text flight is over: ChangeCipherSpec or application data."""
    MALFORMED = "malformed"


class HandshakeMessage(NamedTuple):
    """One complete handshake message."""

    type: int
    body: bytes
    """Without the four bytes of header."""
    records: int
    """Records that hold a part of it, 1 or more."""


class UnfinishedMessage(NamedTuple):
    """A handshake message whose end has not come."""

    type: int
    body: bytes
    """As far as it has come, possibly b""."""
    length: int
    """Body bytes that its header announced."""
    records: int


class Alert(NamedTuple):
    """RFC 8446, 6: values as they stand on the wire."""

    level: int
    description: int


def looks_like_hello(
    prefix: bytes,
    types: tuple[int, ...] = (HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO),
) -> bool | None:
    """Tell whether bytes begin a record that begins with a hello; None as long as it can be.

    `types` narrows the hellos that count. After True, `prefix[5]` is the type that was found.
    """
    if prefix[:1] not in {b"", b"\x16"}:
        return False
    if prefix[1:2] not in {b"", b"\x03"}:
        return False
    if len(prefix) > 2 and prefix[2] > 4:
        return False
    if len(prefix) >= RECORD_HEADER_BYTES:
        length = int.from_bytes(prefix[3:5], "big")
        if not HANDSHAKE_HEADER_BYTES <= length <= RECORD_BYTES:
            return False
    if len(prefix) < HELLO_PREFIX_BYTES:
        return None
    return prefix[5] in types


def whole_messages(data: bytes) -> list[HandshakeMessage]:
    """The messages of bytes that are whole records with one message each; none of any others.

    They are what a RecordReader gives out that is fed with the bytes first.
    """
    messages: list[HandshakeMessage] = []
    at, end = 0, len(data)
    while at + _BOTH_HEADERS.size <= end and len(messages) < HANDSHAKE_MESSAGES:
        kind, major, _, record_length, word = _BOTH_HEADERS.unpack_from(data, at)
        body = at + _BOTH_HEADERS.size
        at += RECORD_HEADER_BYTES + record_length
        if kind != _HANDSHAKE or major != 3 or record_length > RECORD_BYTES or at > end:
            return []
        if record_length != HANDSHAKE_HEADER_BYTES + (word & 0xFF_FFFF):
            return []
        messages.append(HandshakeMessage(word >> 24, data[body:at], 1))
    return messages if at == end else []


class RecordReader:
    """One direction of a connection from its first TLS record on.

    Handshake bytes are taken out of a record as they come, so a message is given out although
    the record that it shares with others is not complete. Alerts and heartbeats are stepped
    over. SSL 2.0 has other records and is MALFORMED here.

    Memory: at most HANDSHAKE_BYTES and one record. Time: RECORDS and HANDSHAKE_MESSAGES stop a
    peer that sends many small ones.
    """

    __slots__ = (
        "_handshake",
        "_left",
        "_messages",
        "_partial",
        "_records",
        "_spanned",
        "_type",
        "alert",
        "alerts",
        "reason",
        "state",
    )

    state: State
    reason: str
    """Why the state is MALFORMED, else ""."""
    alert: Alert | None
    """The first alert."""
    alerts: int
    """Alerts seen."""

    def __init__(self) -> None:
        self._partial = bytearray()  # of a record header, or of an alert
        self._type = 0  # content type of the record that is open
        self._left = 0  # bytes of it to come
        self._handshake = bytearray()  # from the first byte of an unfinished message on
        self._spanned = 0  # records that hold a part of that message
        self._records = 0
        self._messages = 0
        self.state = State.NEED_MORE
        self.reason = ""
        self.alert = None
        self.alerts = 0

    def feed(self, data: bytes) -> list[HandshakeMessage]:
        """Take the next bytes and return the messages that they complete.

        Never raises. In any state but NEED_MORE further bytes are ignored; messages that were
        complete before the state changed are still returned.
        """
        messages: list[HandshakeMessage] = []
        at = 0
        try:
            while at < len(data) and self.state is State.NEED_MORE:
                if self._left:
                    chunk = data[at : at + self._left]
                    at += len(chunk)
                    self._left -= len(chunk)
                    self._take_content(chunk, messages)
                    continue
                wanted = RECORD_HEADER_BYTES - len(self._partial)
                if wanted == RECORD_HEADER_BYTES <= len(data) - at:
                    # The usual header comes in one piece.
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
        return messages

    @property
    def pending(self) -> bool:
        """Tell whether the next message has bytes here already, of its header at the least."""
        return bool(self._handshake)

    def unfinished(self) -> UnfinishedMessage | None:
        """Return the message that has begun but not ended; None until its header is complete."""
        if len(self._handshake) < HANDSHAKE_HEADER_BYTES:
            return None
        kind, length = _message_header(self._handshake, 0)
        body = bytes(self._handshake[HANDSHAKE_HEADER_BYTES:])
        return UnfinishedMessage(kind, body, length, self._spanned)

    def _open_record(self, data: bytes, at: int) -> None:
        # By struct: a record's header is read four times as often as all else together.
        kind, major, minor, length = _RECORD_HEADER.unpack_from(data, at)
        if major != 3:
            raise Malformed(f"record version {major}.{minor}")
        if length > RECORD_BYTES:
            raise Malformed("record too long")
        self._records += 1
        if self._records > RECORDS:
            raise Malformed("too many records")
        if self._handshake and kind != ContentType.HANDSHAKE:
            raise Malformed("record of another type inside a handshake message")
        match kind:
            case ContentType.HANDSHAKE:
                if length == 0:
                    raise Malformed("empty handshake record")
                self._spanned = self._spanned + 1 if self._handshake else 1
            case ContentType.ALERT:
                if length != 2:
                    raise Malformed("alert of a wrong length")
            case ContentType.CHANGE_CIPHER_SPEC | ContentType.APPLICATION_DATA:
                self.state = State.CLOSED
            case ContentType.HEARTBEAT:
                pass
            case other:
                raise Malformed(f"content type {other}")
        self._type = kind
        self._left = length

    def _take_content(self, chunk: bytes, messages: list[HandshakeMessage]) -> None:
        if self._type == ContentType.HANDSHAKE:
            if self._handshake:
                self._handshake += chunk
                del self._handshake[: self._take_messages(self._handshake, messages)]
            else:
                # The usual message is whole: it is read where it stands, only a rest is kept.
                self._handshake += chunk[self._take_messages(chunk, messages) :]
        elif self._type == ContentType.ALERT:
            self._partial += chunk
            if not self._left:
                self.alerts += 1
                self.alert = self.alert or Alert(*self._partial)
                self._partial.clear()

    def _take_messages(self, data: bytes | bytearray, messages: list[HandshakeMessage]) -> int:
        """Give out the messages that `data` holds whole; where the rest begins."""
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
            messages.append(HandshakeMessage(kind, bytes(data[body:at]), self._spanned))
            self._spanned = 1
        return at


def _message_header(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Type and length of the message that begins there (RFC 8446, 4)."""
    word: int = _MESSAGE_HEADER.unpack_from(data, at)[0]
    return word >> 24, word & 0xFF_FFFF
