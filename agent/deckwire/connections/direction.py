"""What one end of a connection sent: from sampled segments to TLS handshake messages."""

from __future__ import annotations

from copy import deepcopy

from deckwire.abi.samples import SackSample, SegmentSample
from deckwire.limits import SEARCHED_HELLOS
from deckwire.tcp.options import duplicate_block
from deckwire.tcp.out_of_order import room_behind
from deckwire.tcp.reassembly import Stream
from deckwire.tls.code_points import HandshakeType
from deckwire.tls.records import (
    BEGINNING_BYTES,
    HELLO_PREFIX_BYTES,
    SPEC_CHANGE,
    HandshakeMessage,
    RecordReader,
    State,
    begins_tls,
    looks_like_hello,
    whole_messages,
)
from deckwire.tls.tds import HEADER_BYTES, TdsPackets, tds_payload

_SEQ_MASK = 0xFFFF_FFFF
_RECORD = b"\x16\x03"
"""With which a handshake record begins, in every version."""
QualityMessage = tuple[HandshakeMessage, str]
"""A message, and how it came: complete, reassembled, overlap, contested, truncated or gap."""


def _segment(sample: SegmentSample) -> tuple[int, bytes, int, int | None, int]:
    """What a Stream needs of a sample. A packet from fragments has no room behind it."""
    room = 0 if sample.fragmented else room_behind(sample.headers + sample.claimed)
    return sample.seq, sample.payload, sample.claimed, sample.urgent_seq, room


def _find_hello(data: bytes) -> int | None:
    """Where the first record is that begins with a ClientHello which `data` has all of."""
    at, tried = data.find(_RECORD), 0
    while at >= 0 and tried < SEARCHED_HELLOS:
        if looks_like_hello(data[at : at + HELLO_PREFIX_BYTES], (HandshakeType.CLIENT_HELLO,)):
            tried += 1
            messages = RecordReader().feed(data[at:])
            if messages and messages[0].type == HandshakeType.CLIENT_HELLO:
                return at
        at = data.find(_RECORD, at + 1)
    return None


class Direction:
    """One end's byte stream: finds where its TLS begins and reads messages from there.

    The kernel side marks the segment in which TLS begins. It cannot where the first bytes are
    spread over segments out of order. Then the stream is anchored: it begins with the byte after
    the SYN, and its first bytes in order show whether they are TLS.
    """

    # Defaults of the class: one segment shows all of most directions, and few of these are set.
    start_seq: int | None = None
    """Sequence number at which TLS begins; None until that is known."""
    last_ns = 0
    """Kernel time of the last segment; 0 before the first."""
    closed = False
    held = 0
    """Bytes of memory, about."""
    dropped = 0
    """Payload bytes for which streams that are closed had no room."""
    _first: SegmentSample | None = None
    """The first segment, if it consists of whole messages: then nothing was opened for it."""
    _stream: Stream | None = None
    _reader: RecordReader | None = None
    _pending = False
    """Bytes of a message that is not complete have been read."""
    _anchor: int | None = None
    """Sequence number after the SYN, as long as TLS may begin there."""
    other_hello: bytes | None = None
    """The body of the ClientHello in the copy of the stream that is not believed."""
    overlapped: SegmentSample | None = None
    """The first segment that contradicts bytes from before."""
    _other: Stream | None = None
    """The stream as it is if the receiver decides otherwise where no rule says how: there only
    while segments wait behind a hole, and after urgent or contradicting bytes."""
    _other_reader: RecordReader | None = None
    _other_packets: TdsPackets | None = None
    _given = False
    """A message was read from the stream that is believed."""
    _unproven = 0
    """Segments that came since the receiver said what it holds out of order."""
    _doubted = False
    """Both streams may differ from here on."""
    _hello: tuple[int, int] | None = None
    """Of the first segment before the start that begins a hello: sequence number and length."""
    _packets: TdsPackets | None = None
    """TLS comes in packets of TDS."""

    @property
    def is_new(self) -> bool:
        """Whether no segment has come yet."""
        return not self.last_ns

    @property
    def state(self) -> State:
        """What further records can be."""
        return State.NEED_MORE if self._reader is None else self._reader.state

    @property
    def waiting(self) -> bool:
        """Whether bytes were seen that may still give a message."""
        return not self.closed and self.held > 0

    @property
    def behind_hole(self) -> bool:
        """Whether bytes of TLS wait for others before them."""
        return self._reader is not None and self._stream is not None and self._stream.gap

    def begin(self, seq: int) -> None:
        """TLS goes on at this sequence number; what was before is known. For a new direction."""
        self.start_seq = seq

    def anchor(self, first_seq: int | None) -> None:
        """TLS may begin at this sequence number, the first after the SYN. For a new direction."""
        self._anchor = first_seq

    def add(self, sample: SegmentSample) -> list[QualityMessage]:
        """Take a segment; the messages that it completes."""
        if self.closed:
            return []
        self.last_ns = sample.time_ns
        if self.start_seq is not None:
            stream, reader = self._stream, self._reader
            if stream is None or reader is None:
                stream, reader = self._open(self.start_seq)
            return self._feed(stream, reader, sample)
        if sample.start_seq is not None:
            return self._begin(sample.start_seq, sample)
        return self._wait(sample)

    def restart(self) -> None:
        """Drop what was read because it is not TLS; a later start in this direction counts.

        It may be in bytes that were there already, behind the records that were read.
        """
        if self._first is not None and self.start_seq is not None:
            self._open(self.start_seq)
        if self._stream is not None:
            self._stream.lose_beginning(0 if self._reader is None else self._reader.unread)
            self._stream.overlap = False
        self.start_seq = self._anchor = self._hello = None
        self._first = self.overlapped = None
        self._other = None
        self._reader = self._other_reader = None
        self._packets = self._other_packets = None
        self.closed = self._pending = self._given = self._doubted = False
        self._unproven = 0
        self.held = self._other_held + (0 if self._stream is None else self._stream.held)

    def close(self) -> None:
        """Want nothing more of this direction, and free what it holds."""
        self.closed = True
        self._first = self.overlapped = self.other_hello = None
        self._other = self._other_reader = self._other_packets = None
        self.held = 0
        if self._stream is not None:
            self.dropped += self._stream.dropped
            self._stream = None

    def take_other_hello(self) -> bytes | None:
        """The ClientHello of the other copy, once: a hello that comes later has its own copies."""
        body, self.other_hello = self.other_hello, None
        self.held -= 0 if body is None else len(body)
        return body

    def search(self) -> list[QualityMessage]:
        """When the peer answers: messages from the first whole ClientHello in what waits.

        The kernel marks none that came before the bytes in front of it did.
        """
        if self.start_seq is not None or self._stream is None or self.closed:
            return []
        for seq, data in self._stream.waiting():
            at = _find_hello(data)
            if at is not None:
                self.start_seq = (seq + at) & _SEQ_MASK
                self._anchor = None
                self._stream.begin(self.start_seq)
                self._reader = RecordReader()
                return self._read(self._stream, self._reader, joined=True)
        return []

    def unfinished(self) -> QualityMessage | None:
        """At the end: the message that has begun but not ended."""
        if self._reader is None or self._stream is None:
            return None
        message = self._reader.unfinished()
        if message is None:
            return None
        # Bytes after a hole, and bytes that the capture left out, are not cut off by the peer.
        lost = self._stream.gap or self._stream.cut
        seen = HandshakeMessage(message.type, message.body, message.records)
        return seen, "gap" if lost else "truncated"

    def salvage(self) -> list[QualityMessage]:
        """At the end: messages after bytes that never came, if a segment begins a hello."""
        if self.closed or self._given:
            return []
        other = self.take_other_hello()
        if other is not None:
            # Only the copy that is not believed is a hello.
            return [(HandshakeMessage(HandshakeType.CLIENT_HELLO, other, 1), "contested")]
        if self._hello is None or self._stream is None:
            return []
        self.start_seq, size = self._hello
        stream = self._stream
        stream.begin(self.start_seq)
        reader = self._reader = RecordReader()
        return self._read(stream, reader, bool(stream.peek(1, size)))

    def _begin(self, start_seq: int, sample: SegmentSample) -> list[QualityMessage]:
        self.start_seq = start_seq
        if sample.seq != start_seq:
            self._look_for_packets(start_seq, sample)
        if self._stream is None:
            if sample.seq == start_seq and sample.urgent_seq is None:
                clear = sample.payload
                if sample.ends:
                    # What follows is encrypted, and so this direction is closed next.
                    clear = clear.removesuffix(SPEC_CHANGE)
                whole = whole_messages(clear)
                if whole:
                    # The usual direction ends with its first segment. What puts segments and
                    # records together is made when another one comes, and comes to the same.
                    self._first = sample
                    self._given = True
                    if self._other is None and self.other_hello is None:
                        self.held = len(sample.payload)
                        return [(each, "complete") for each in whole]
                    self.held = len(sample.payload) + self._other_held
                    return [
                        (each, "contested" if self._is_contested(each) else "complete")
                        for each in whole
                    ]
            stream = Stream(start_seq)
        else:
            stream = self._stream
            stream.begin(start_seq, sample.seq)
            if self._other is not None:
                self._other.begin(start_seq, sample.seq)
            self._pending = bool(stream.peek(1))
        self._stream, self._reader = stream, RecordReader()
        return self._feed(stream, self._reader, sample)

    def _look_for_packets(self, start_seq: int, sample: SegmentSample) -> None:
        """Note whether the bytes before the start are the header of a TDS packet."""
        at = (start_seq - sample.seq) & _SEQ_MASK
        if HEADER_BYTES <= at < len(sample.payload):
            left = tds_payload(sample.payload[at - HEADER_BYTES : at])
            if left is not None:
                self._packets, self._other_packets = TdsPackets(left), TdsPackets(left)

    def _wait(self, sample: SegmentSample) -> list[QualityMessage]:
        """Keep a segment while it is unknown where TLS begins."""
        stream, anchor = self._stream, self._anchor
        if stream is None:
            first_seq = sample.seq if anchor is None else anchor
            stream = self._stream = Stream(first_seq, begun=anchor is not None)
        joined = stream.held > 0
        self._doubt(stream, sample)
        stream.add(*_segment(sample))
        self._settle(stream, sample)
        self._count_held(stream)
        if self._hello is None and looks_like_hello(sample.payload):
            self._hello = sample.seq, len(sample.payload)
        if anchor is None:
            return []
        begins = begins_tls(stream.peek(BEGINNING_BYTES))
        if begins is None:
            return []
        self._anchor = None
        if not begins:
            stream.lose_beginning()
            return []
        self.start_seq = anchor
        reader = self._reader = RecordReader()
        return self._read(stream, reader, joined)

    def _open(self, start_seq: int) -> tuple[Stream, RecordReader]:
        """Make what puts segments and records together, and catch up on the first segment."""
        stream, reader = self._stream, self._reader = Stream(start_seq), RecordReader()
        first, self._first = self._first, None
        if first is not None:
            stream.add(first.seq, first.payload, first.claimed)
            reader.feed(stream.read())
        return stream, reader

    def _feed(
        self, stream: Stream, reader: RecordReader, sample: SegmentSample
    ) -> list[QualityMessage]:
        gap = stream.gap
        self._doubt(stream, sample)
        stream.add(*_segment(sample))
        self._settle(stream, sample)
        return self._read(stream, reader, gap and not stream.gap)

    # --- the copy that is not believed ---

    def _doubt(self, stream: Stream, sample: SegmentSample) -> None:
        """Before a segment is added: keep another copy if no rule may decide what it does."""
        if self._other is None:
            if sample.urgent_seq is None and not stream.is_ahead(sample.seq):
                return
            self._other = stream.other()
            self._other_reader = deepcopy(self._reader)
            self._other_packets = deepcopy(self._packets)
        if sample.urgent_seq is not None:
            self._doubted = True
        self._unproven += 1
        self._other.add(*_segment(sample))

    def prove(self, sample: SackSample) -> None:
        """Decide between both copies by what the receiver says of the last segment.

        It names the bytes of that segment that it had before (RFC 2883). Where only one copy had
        them, that is the true one.
        """
        stream, other = self._stream, self._other
        unproven, self._unproven = self._unproven, 0
        if stream is None or other is None or unproven != 1 or not stream.gap:
            return
        if stream.next_offset != other.next_offset:
            return
        block = duplicate_block(sample.ack, sample.blocks)
        believed, contrary = stream.had(block), other.had(block)
        if believed and not contrary:
            other.hold_as(stream)
        elif contrary and not believed:
            stream.hold_as(other)
        self._count_held(stream)

    def _settle(self, stream: Stream, sample: SegmentSample) -> None:
        """After a segment was added: drop the other copy if it is the same."""
        if stream.overlap and self.overlapped is None:
            self.overlapped = sample
        if self._other is None:
            return
        self._doubted = self._doubted or stream.overlap
        if not self._doubted and not stream.gap:
            self._other = self._other_reader = self._other_packets = None

    def _read_other(self) -> None:
        """Read the ClientHello of the other copy."""
        other = self._other
        if other is None or not self._doubted or self.other_hello is not None:
            return
        if self._other_reader is None:
            self._other_reader = RecordReader()
        data = other.read()
        if self._other_packets is not None:
            data = self._other_packets.unwrap(data)
        for message in self._other_reader.feed(data):
            if message.type == HandshakeType.CLIENT_HELLO:
                self.other_hello = message.body
                return

    @property
    def _other_held(self) -> int:
        """Bytes of memory of the copy that is not believed, about."""
        held = 0 if self.other_hello is None else len(self.other_hello)
        if self._other is not None:
            held += self._other.held
        return held if self._other_reader is None else held + self._other_reader.held

    def _count_held(self, stream: Stream) -> None:
        reader = 0 if self._reader is None else self._reader.held
        self.held = stream.held + reader + self._other_held

    def _read(self, stream: Stream, reader: RecordReader, joined: bool) -> list[QualityMessage]:
        """The messages of what is in order now; `joined` from several segments."""
        self._read_other()
        data = stream.read()
        if not data:
            self._count_held(stream)
            return []
        if self._packets is not None:
            data = self._packets.unwrap(data)
        found: list[QualityMessage] = []
        for number, message in enumerate(reader.feed(data)):
            self._given = True
            if self._is_contested(message):
                quality = "contested"
            elif stream.overlap:
                quality = "overlap"
            elif message.records > 1 or joined or (number == 0 and self._pending):
                quality = "reassembled"
            else:
                quality = "complete"
            found.append((message, quality))
        self._pending = reader.pending
        self._count_held(stream)
        return found

    def _is_contested(self, message: HandshakeMessage) -> bool:
        return (
            message.type == HandshakeType.CLIENT_HELLO
            and self.other_hello is not None
            and self.other_hello != message.body
        )
