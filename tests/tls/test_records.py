"""RecordReader returns the same messages however the bytes are cut, and knows when to stop."""

from __future__ import annotations

import ssl
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import (
    HANDSHAKE_BYTES,
    HANDSHAKE_MESSAGES,
    RECORD_BYTES,
    RECORDS,
    STREAM_BYTES,
)
from deckwire.tcp.reassembly import Stream
from deckwire.tls.code_points import HandshakeType
from deckwire.tls.messages import HELLO_RETRY_REQUEST
from deckwire.tls.records import (
    BEGINNING_BYTES,
    HELLO_PREFIX_BYTES,
    HandshakeMessage,
    RecordReader,
    State,
    UnfinishedMessage,
    begins_tls,
    looks_like_hello,
    whole_messages,
)
from tests.support.flights import (
    SSL2,
    Flight,
    client_hello,
    handshake,
    message,
    record,
    server_hello,
)

HELLO = client_hello((0, b""), (23, b""))
TLS12 = handshake(ssl.TLSVersion.TLSv1_2)
TLS13 = handshake(ssl.TLSVersion.TLSv1_3)
ALERT = record(b"\x01\x70", 21)
CCS = record(b"\x01", 20)
HEAD = message(1, HELLO)[:7]


def read(data: bytes) -> tuple[list[HandshakeMessage], RecordReader]:
    reader = RecordReader()
    return reader.feed(data), reader


def types(flight: bytes) -> list[int]:
    return [m.type for m in read(flight)[0]]


def test_flights_of_openssl_give_their_clear_text_messages() -> None:
    assert types(TLS12.client) == [1, 16]
    assert types(TLS12.server)[:4] == [2, 11, 12, 14]
    assert types(handshake(mutual=True).client) == [1, 11, 16, 15]
    assert types(TLS13.client) == [1]
    assert types(TLS13.server) == [2]
    for side in TLS12 + TLS13:
        assert read(side)[1].state is State.CLOSED


@given(st.data())
def test_segments_in_any_order_give_the_same_messages(data: st.DataObject) -> None:
    flight: Flight = data.draw(st.sampled_from([TLS12, TLS13]))
    text: bytes = data.draw(st.sampled_from(flight))
    edges = data.draw(st.sets(st.integers(1, len(text) - 1), max_size=30))
    marks = sorted({0, len(text), *edges})
    parts = [(a, text[a:b]) for a, b in pairwise(marks)]
    stream, reader = Stream(0xFFFF_FF00), RecordReader()
    messages: list[HandshakeMessage] = []
    for offset, part in data.draw(st.permutations(parts)):
        stream.add((0xFFFF_FF00 + offset) % 2**32, part)
        messages += reader.feed(stream.read())
    assert messages == read(text)[0]
    assert reader.state is State.CLOSED


EMPTY = record(b"")


def test_empty_handshake_records_are_passed_over() -> None:
    cut = record(HEAD) + EMPTY * 3 + record(message(1, HELLO)[len(HEAD) :])
    for text, spanned in ((EMPTY + record(message(1, HELLO)), 1), (EMPTY + cut + EMPTY, 2)):
        messages, reader = read(text + record(b"", 23))
        assert messages == [HandshakeMessage(1, HELLO, spanned)]
        assert reader.state is State.CLOSED


def test_the_longest_hello_of_a_client_may_come_in_records_of_one_byte() -> None:
    hello = client_hello((21, bytes(STREAM_BYTES // 6 - 60)))
    records = b"".join(record(bytes([byte])) for byte in message(1, hello))
    assert STREAM_BYTES - 100 < len(records) <= STREAM_BYTES
    messages, _ = read(records)
    assert messages == [HandshakeMessage(1, hello, len(hello) + 4)]


@pytest.mark.parametrize(
    ("data", "begins"),
    [
        (b"", None),
        (b"\x16\x03\x01\x00\x01", None),
        (b"\x16\x03\x01\x00\x01\x01", True),
        (ALERT, None),
        (ALERT + ALERT + b"\x16\x03\x01\x02\x00\x02", True),
        (EMPTY + ALERT + b"\x16\x03\x01\x02\x00\x01", True),
        (EMPTY * 20, True),
        (ALERT + b"GET", False),
        (EMPTY + b"EHLO", False),
        (b"\x15\x03\x01\x00\x03", False),
        (b"\x16\x03\xff\x00\x01\x01", True),
        (b"\x15\x02", False),
        (b"\x16\x03\x01\x02\x00\x0b", False),
        (CCS + b"\x16\x03\x01\x02\x00\x01", True),
        (SSL2, True),
        (SSL2[:2] + b"\x02", False),
        (b"SSH-2.0", False),
    ],
)
def test_how_a_stream_of_tls_begins(data: bytes, begins: bool | None) -> None:
    verdicts = [begins_tls(data[:n]) for n in range(len(data) + 1)]
    assert verdicts[-1] is begins
    first = next((n for n, verdict in enumerate(verdicts) if verdict is not None), len(verdicts))
    assert set(verdicts[first:]) <= {begins}
    assert begins_tls(data + bytes(BEGINNING_BYTES)) is not None


@given(st.lists(st.integers(1, 40), min_size=1))
def test_a_message_may_span_records(cuts: list[int]) -> None:
    text = message(1, HELLO) + message(2, server_hello())
    records, at, spans = b"", 0, []
    while at < len(text):
        size = cuts[len(spans) % len(cuts)]
        records += record(text[at : at + size])
        spans.append((at, at + size))
        at += size
    messages, reader = read(records)
    assert [m.body for m in messages] == [HELLO, server_hello()]
    end = 4 + len(HELLO)
    assert messages[0].records == sum(start < end for start, _ in spans)
    assert messages[1].records == sum(stop > end for _, stop in spans)
    assert reader.state is State.NEED_MORE
    assert reader.unfinished() is None


@given(st.data())
def test_whole_messages_are_those_of_a_reader(data: st.DataObject) -> None:
    """whole_messages returns messages only if a reader would have no bytes left."""
    hello = record(message(1, HELLO))
    flights = [hello, hello + record(message(2, server_hello())) * 2, TLS13.server, TLS12.server]
    text = bytearray(data.draw(st.sampled_from(flights)))
    size = 5 + int.from_bytes(text[3:5], "big")
    text = text[: data.draw(st.sampled_from([size, size, size - 1, size + 1, 8, len(text)]))]
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, 8) | st.integers(0, len(text) - 1))
        text[at % len(text)] = data.draw(st.integers(0, 255))
    found = whole_messages(bytes(text))
    if found:
        messages, reader = read(bytes(text))
        assert messages == found
        assert (reader.state, reader.pending, reader.unfinished()) == (State.NEED_MORE, False, None)


def test_whole_messages_need_whole_records_with_one_message_each() -> None:
    one, two = record(message(1, HELLO)), record(message(14, b""))
    expected = [HandshakeMessage(1, HELLO, 1), HandshakeMessage(14, b"", 1)]
    assert whole_messages(one + two) == expected
    assert whole_messages(two * HANDSHAKE_MESSAGES) == expected[1:] * HANDSHAKE_MESSAGES
    for other in (
        b"",
        one[:-1],
        one + two[:-1],
        one + CCS,
        ALERT + one,
        record(message(1, HELLO) + message(14, b"")),
        two * (HANDSHAKE_MESSAGES + 1),
    ):
        assert whole_messages(other) == []


def test_bytes_may_arrive_one_by_one() -> None:
    reader = RecordReader()
    text = ALERT + record(message(2, server_hello()) + message(14, b"")) + CCS
    messages = [m for n in range(len(text)) for m in reader.feed(text[n : n + 1])]
    assert messages == read(text)[0]
    assert [(m.type, m.records) for m in messages] == [(2, 1), (14, 1)]
    assert reader.state is State.CLOSED


@pytest.mark.parametrize("hello", [record(message(1, HELLO)), TLS12.client[:200]])
def test_every_prefix_of_a_hello_needs_more(hello: bytes) -> None:
    for length in range(len(hello)):
        messages, reader = read(hello[:length])
        assert messages == []
        assert (reader.state, reader.reason) == (State.NEED_MORE, "")


@pytest.mark.parametrize("size", [1, 3, 1_000])
@pytest.mark.parametrize(
    ("rest", "state"),
    [
        (b"\x16\x03\x01", State.NEED_MORE),
        (b"\r\nSTARTTLS\r\n", State.MALFORMED),
        (b"\x17\x03\x03\0\x05hello", State.CLOSED),
        (b"", State.NEED_MORE),
    ],
)
def test_what_belongs_to_no_record_is_counted(rest: bytes, state: State, size: int) -> None:
    """Of bytes that come after the reader has ended, those of the same segment."""
    reader = RecordReader()
    data = record(message(1, client_hello())) + rest
    fed = 0
    for at in range(0, len(data), size):
        if reader.state is State.NEED_MORE:
            reader.feed(data[at : at + size])
            fed = min(at + size, len(data))
    assert reader.state is state
    assert data[fed - reader.unread : fed] == rest[: len(rest) - (len(data) - fed)]


def test_an_unfinished_message_is_available() -> None:
    text = record(message(1, HELLO))
    for length in range(len(text)):
        reader = read(text[:length])[1]
        unfinished = reader.unfinished()
        assert reader.pending is (length > 5)
        if length < 9:
            assert unfinished is None
        else:
            assert unfinished == UnfinishedMessage(1, HELLO[: length - 9], 1)
    assert read(text)[1].unfinished() is None
    assert read(text)[1].pending is False


def test_a_message_is_returned_before_its_record_ends() -> None:
    text = record(message(2, server_hello()) + message(11, bytes(500)))
    messages, reader = read(text[:-100])
    assert [m.type for m in messages] == [2]
    unfinished = reader.unfinished()
    assert unfinished is not None
    assert (unfinished.type, len(unfinished.body)) == (11, 400)


ANSWERED = record(message(2, server_hello()))
RETRIED = record(message(2, server_hello(random=HELLO_RETRY_REQUEST)))


@pytest.mark.parametrize(
    "flight",
    [
        ANSWERED + CCS,
        record(message(1, HELLO)) + record(bytes(40), 23),
        record(message(1, HELLO)) + CCS + record(b"\xb4" + bytes(39)),
        record(message(1, HELLO)) + record(bytes(2), 20),
    ],
)
def test_change_cipher_spec_and_application_data_end_the_flight(flight: bytes) -> None:
    messages, reader = read(flight + record(message(1, HELLO)))
    assert len(messages) == 1
    assert reader.state is State.CLOSED
    assert reader.feed(record(message(1, HELLO))) == []


@pytest.mark.parametrize(
    "flight",
    [CCS + ANSWERED, RETRIED + CCS + ANSWERED, record(b"", 20) + ANSWERED],
)
def test_change_cipher_spec_is_skipped_where_clear_text_may_follow(flight: bytes) -> None:
    messages, _ = read(flight)
    assert messages[-1].body == server_hello()


@pytest.mark.parametrize("between", [ALERT, CCS, ALERT * 3, record(b"\1\0\1x", 24)])
def test_other_records_may_come_between_the_pieces_of_a_message(between: bytes) -> None:
    text = message(1, HELLO)
    messages, _ = read(record(text[:9]) + between + record(text[9:]))
    assert messages == [HandshakeMessage(1, HELLO, 2)]


@given(st.lists(st.integers(1, len(SSL2))))
def test_a_hello_of_ssl2_may_come_first(cuts: list[int]) -> None:
    reader = RecordReader()
    ends = sorted({*cuts, len(SSL2)})
    found = [m for a, b in pairwise([0, *ends]) for m in reader.feed(SSL2[a:b])]
    found += reader.feed(record(message(16, b"key")))
    assert found == [
        HandshakeMessage(HandshakeType.SSL2_CLIENT_HELLO, SSL2[2:], 1),
        HandshakeMessage(16, b"key", 1),
    ]


def test_alerts_and_heartbeats_are_skipped() -> None:
    heartbeat = record(b"\x01\x40\x00", 24)
    text = ALERT + heartbeat + record(b"\x02\x28", 21) + record(message(2, server_hello()))
    messages, reader = read(text)
    assert [m.type for m in messages] == [2]
    assert reader.state is State.NEED_MORE


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00", "record version 46.1"),
        (b"GET / HTTP/1.1\r\n", "record version 69.84"),
        (b"\x16\x02\x00\x00\x10", "record version 2.0"),
        (b"\x19\x03\x01\x00\x10", "content type 25"),
        (b"\x16\x03\x01" + (RECORD_BYTES + 1).to_bytes(2, "big"), "record too long"),
        (record(b"\x01", 21), "alert of a wrong length"),
        (
            record(b"\x0b" + (HANDSHAKE_BYTES + 1).to_bytes(3, "big")),
            "handshake message too long",
        ),
        (
            record(message(11, b"abc")[:-1]) + record(b"x", 23),
            "encryption begins inside a handshake message",
        ),
    ],
)
def test_a_malformed_record_ends_reading(tail: bytes, reason: str) -> None:
    messages, reader = read(record(message(1, HELLO)) + tail)
    assert len(messages) == 1
    assert (reader.state, reader.reason) == (State.MALFORMED, reason)
    assert reader.feed(record(message(1, HELLO))) == []


def test_an_unfinished_message_survives_a_malformed_record() -> None:
    _, reader = read(record(message(1, HELLO)[:-5]) + b"\xff" * 5)
    assert reader.state is State.MALFORMED
    assert reader.unfinished() == UnfinishedMessage(1, HELLO[:-5], 1)


def test_the_longest_message_passes() -> None:
    text = message(11, bytes(HANDSHAKE_BYTES))
    size = RECORD_BYTES
    records = [record(text[n : n + size]) for n in range(0, len(text), size)]
    messages, _ = read(b"".join(records))
    assert [(len(m.body), m.records) for m in messages] == [(HANDSHAKE_BYTES, len(records))]


def test_the_numbers_of_records_and_messages_are_bounded() -> None:
    messages, reader = read(record(message(0, b"") * (HANDSHAKE_MESSAGES + 1)))
    assert len(messages) == HANDSHAKE_MESSAGES
    assert (reader.state, reader.reason) == (State.MALFORMED, "too many handshake messages")
    _, reader = read(ALERT * RECORDS)
    assert reader.state is State.NEED_MORE
    reader.feed(ALERT)
    assert (reader.state, reader.reason) == (State.MALFORMED, "too many records")


@given(st.binary(max_size=300) | st.binary(max_size=300).map(record), st.integers(1, 50))
def test_any_input_ends_in_a_state(data: bytes, step: int) -> None:
    whole = read(data)
    reader = RecordReader()
    messages = [m for n in range(0, len(data), step) for m in reader.feed(data[n : n + step])]
    assert messages == whole[0]
    assert (reader.state, reader.reason) == (whole[1].state, whole[1].reason)
    assert (reader.reason != "") is (reader.state is State.MALFORMED)
    assert reader.unfinished() == whole[1].unfinished()


@pytest.mark.parametrize("hello", [TLS12.client, TLS12.server, TLS13.client, TLS13.server])
def test_hellos_of_openssl_look_like_hellos(hello: bytes) -> None:
    for length in range(HELLO_PREFIX_BYTES):
        assert looks_like_hello(hello[:length]) is None
    assert looks_like_hello(hello[:HELLO_PREFIX_BYTES]) is True
    assert looks_like_hello(hello) is True
    assert looks_like_hello(hello, (hello[5],)) is True
    assert looks_like_hello(hello, (3 - hello[5],)) is False


@pytest.mark.parametrize(
    "prefix",
    [
        b"\x15",
        b"\x17\x03",
        b"\x16\x02",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x48\x01",
        b"\x16\x03\x01\x02\x00\x0b",
        b"SSH-2.0-",
        b"\x80\x2e\x01\x03\x01",
    ],
)
def test_other_bytes_do_not_look_like_a_hello(prefix: bytes) -> None:
    assert looks_like_hello(prefix) is False


@pytest.mark.parametrize("length", [1, 4, RECORD_BYTES])
def test_the_shortest_and_longest_record_may_hold_a_hello(length: int) -> None:
    assert looks_like_hello(b"\x16\x03\x04" + length.to_bytes(2, "big") + b"\x02") is True


@given(st.binary(max_size=12))
def test_looks_like_hello_never_changes_its_mind(data: bytes) -> None:
    verdicts = [looks_like_hello(data[:n]) for n in range(len(data) + 1)]
    decided = [v for v in verdicts if v is not None]
    assert len(set(decided)) <= 1
    assert verdicts == [None] * (len(verdicts) - len(decided)) + decided
    assert len(data) < HELLO_PREFIX_BYTES or decided
