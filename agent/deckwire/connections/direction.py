"""What one end of a connection sent: from sampled segments to TLS handshake messages."""

from __future__ import annotations

from deckwire.abi.samples import SegmentSample
from deckwire.tcp.reassembly import Stream
from deckwire.tls.records import (
    BEGINNING_BYTES,
    HandshakeMessage,
    RecordReader,
    State,
    begins_tls,
    looks_like_hello,
    whole_messages,
)
from deckwire.tls.tds import HEADER_BYTES, TdsPackets, tds_payload

QualityMessage = tuple[HandshakeMessage, str]
"""A message, and how it came: complete, reassembled, overlap, truncated or gap."""


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
    _buffered = 0
    """Bytes that the reader may keep for that message."""
    _anchor: int | None = None
    """Sequence number after the SYN, as long as TLS may begin there."""
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
        """Drop what was read because it is not TLS; a later start in this direction counts."""
        dropped = self.dropped + (self._stream.dropped if self._stream is not None else 0)
        last_ns = self.last_ns
        self.__dict__.clear()
        self.last_ns, self.dropped = last_ns, dropped

    def close(self) -> None:
        """Want nothing more of this direction, and free what it holds."""
        self.closed = True
        self._first = None
        self.held = 0
        if self._stream is not None:
            self.dropped += self._stream.dropped
            self._stream = None

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
        if self.closed or self._hello is None or self._stream is None:
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
                whole = whole_messages(sample.payload)
                if whole:
                    # The usual direction ends with its first segment. What puts segments and
                    # records together is made when another one comes, and comes to the same.
                    self._first = sample
                    self.held = len(sample.payload)
                    return [(message, "complete") for message in whole]
            stream = Stream(start_seq)
        else:
            stream = self._stream
            stream.begin(start_seq, sample.seq)
            self._pending = bool(stream.peek(1))
        self._stream, self._reader = stream, RecordReader()
        return self._feed(stream, self._reader, sample)

    def _look_for_packets(self, start_seq: int, sample: SegmentSample) -> None:
        """Note whether the bytes before the start are the header of a TDS packet."""
        at = (start_seq - sample.seq) & 0xFFFF_FFFF
        if HEADER_BYTES <= at < len(sample.payload):
            left = tds_payload(sample.payload[at - HEADER_BYTES : at])
            if left is not None:
                self._packets = TdsPackets(left)

    def _wait(self, sample: SegmentSample) -> list[QualityMessage]:
        """Keep a segment while it is unknown where TLS begins."""
        stream, anchor = self._stream, self._anchor
        if stream is None:
            first_seq = sample.seq if anchor is None else anchor
            stream = self._stream = Stream(first_seq, begun=anchor is not None)
        joined = stream.held > 0
        stream.add(sample.seq, sample.payload, sample.claimed, sample.urgent_seq)
        self.held = stream.held
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
        stream.add(sample.seq, sample.payload, sample.claimed, sample.urgent_seq)
        return self._read(stream, reader, gap and not stream.gap)

    def _read(self, stream: Stream, reader: RecordReader, joined: bool) -> list[QualityMessage]:
        """The messages of what is in order now; `joined` from several segments."""
        data = stream.read()
        if not data:
            self.held = stream.held + self._buffered
            return []
        if self._packets is not None:
            data = self._packets.unwrap(data)
        found: list[QualityMessage] = []
        for number, message in enumerate(reader.feed(data)):
            if stream.overlap:
                quality = "overlap"
            elif message.records > 1 or joined or (number == 0 and self._pending):
                quality = "reassembled"
            else:
                quality = "complete"
            found.append((message, quality))
        self._pending = reader.pending
        kept = self._buffered if not found else 0
        self._buffered = kept + len(data) if self._pending else 0
        self.held = stream.held + self._buffered
        return found
