"""One connection's TLS, from segments to observations; no kernel, no sockets."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deckwire.abi import structs as abi
from deckwire.abi.samples import SegmentSample
from deckwire.connections.connection import Connection
from deckwire.connections.observations import (
    AnomalySeen,
    CertificatesSeen,
    HelloSeen,
    Observation,
    SessionSeen,
)
from deckwire.limits import HANDSHAKE_BYTES, OFFERED_HELLOS, STREAM_BYTES, STREAM_PIECES
from deckwire.tcp.anomaly import Technique
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.out_of_order import PIECE_BYTES
from deckwire.tls.hello_cache import HelloCache
from deckwire.tls.messages import parse_client_hello, parse_server_hello
from tests.support.fingerprint_frames import syn
from tests.support.flights import (
    SSL2,
    Flight,
    client_hello,
    handshake,
    identity,
    message,
    record,
    server_hello,
    u16,
    vector,
)

KEY = bytes(36)
CLIENT, SERVER = 1, 0
"""The ends: that the client is end 1 catches mix-ups with "the sender"."""
ISS = {CLIENT: 0xFFFF_FF00, SERVER: 77}
"""The client's sequence numbers wrap inside the hello."""
SYN_PACKET = Handshake(syn(seq=ISS[CLIENT]))

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class Part(NamedTuple):
    """Bytes of one end at an offset in its stream."""

    sender: int
    offset: int
    data: bytes
    claimed: int | None = None


def connection(client: int = CLIENT, *, opened: bool = True) -> Connection:
    return Connection(KEY, 1, client, SYN_PACKET if opened else Handshake(), HelloCache())


class Feed:
    """Turns parts into samples and marks where TLS begins, as the kernel does."""

    def __init__(self, starts: dict[int, int] | None = None, client: int = CLIENT) -> None:
        self._starts = {CLIENT: 0, SERVER: 0} if starts is None else starts
        self._emitted: set[int] = set()
        self._client = client
        self._time_ns = 0

    def sample(self, part: Part) -> SegmentSample:
        self._time_ns += 1_000
        start = self._starts.get(part.sender)
        begins = start is not None and part.offset <= start < part.offset + len(part.data)
        start_seq = None
        if begins and part.sender not in self._emitted:
            self._emitted.add(part.sender)
            start_seq = ISS[part.sender] + 1 + (start or 0) & 0xFFFF_FFFF
        return SegmentSample(
            time_ns=self._time_ns,
            born_ns=1,
            key=KEY,
            sender=part.sender,
            client=self._client,
            midstream=False,
            seq=ISS[part.sender] + 1 + part.offset & 0xFFFF_FFFF,
            start_seq=start_seq,
            payload=part.data,
            claimed=len(part.data) if part.claimed is None else part.claimed,
        )


def run(
    parts: Iterable[Part],
    watched: Connection | None = None,
    *,
    starts: dict[int, int] | None = None,
    client: int = CLIENT,
    finish: bool = True,
) -> list[Observation]:
    watched = connection(client) if watched is None else watched
    feed = Feed(starts, client)
    seen: list[Observation] = []
    for part in parts:
        seen += watched.add(feed.sample(part))
    if finish:
        seen += watched.finish()
        assert watched.held == 0
        assert watched.done
    return seen


def cut(sender: int, data: bytes, size: int, offset: int = 0) -> list[Part]:
    return [Part(sender, offset + at, data[at : at + size]) for at in range(0, len(data), size)]


def clear_text(data: bytes) -> bytes:
    """The records up to the first that is encrypted: what the kernel samples."""
    at = 0
    while at < len(data) and data[at] in (21, 22):
        at += 5 + int.from_bytes(data[at + 3 : at + 5], "big")
    return data[:at]


def turns(flight: Flight, size: int = 1_400) -> list[Part]:
    """The clear text of a flight as it goes: hello, the server's flight, the client's rest."""
    client, server = clear_text(flight.client), clear_text(flight.server)
    hello = 5 + int.from_bytes(client[3:5], "big")
    return [
        *cut(CLIENT, client[:hello], size),
        *cut(SERVER, server, size),
        *cut(CLIENT, client[hello:], size, hello),
    ]


def kinds(seen: Iterable[Observation]) -> list[str]:
    return [type(one).__name__ for one in seen]


def without_quality(seen: Iterable[Observation]) -> list[Any]:
    """What must not depend on how the bytes came."""
    shown: list[Any] = []
    for one in seen:
        if isinstance(one, SessionSeen):
            shown.append(("session", one.hello, one.client))
        elif isinstance(one, HelloSeen):
            shown.append(("hello", one.hello, one.offset(SYN_PACKET)))
        else:
            shown.append(("certificates", one.chain, one.chain_length, one.from_client, one.client))
    return shown


# --- real flights ---


def test_tls12_gives_hello_session_and_certificate() -> None:
    watched = connection()
    parts = turns(handshake(TLS12))
    hello, session, certificates = run(parts, watched, finish=False)
    assert isinstance(hello, HelloSeen)
    assert isinstance(session, SessionSeen)
    assert isinstance(certificates, CertificatesSeen)
    assert hello.hello.server_name == b"decoy.example"
    assert (hello.quality, hello.offset(SYN_PACKET), hello.time_ns) == ("complete", 0, 1_000)
    assert session.client is hello.hello
    assert certificates.chain == (identity()[1],)
    assert (certificates.chain_length, certificates.from_client) == (1, False)
    assert certificates.client is hello.hello
    assert watched.done


def test_hellos_count_as_what_they_take_in_memory() -> None:
    """They are as large as their sender likes, and far larger than on the wire."""
    suites = bytes(range(1, 201)) * 9
    body = client_hello(suites=suites)
    watched = connection()
    run([Part(CLIENT, 0, record(message(1, body)))], watched, finish=False)
    memory = parse_client_hello(body).memory
    assert watched.held == len(record(message(1, body))) + memory
    assert memory > 10 * len(body)
    watched.finish()
    assert watched.held == 0


def test_tls13_is_done_at_the_server_hello() -> None:
    watched = connection()
    seen = run(turns(handshake(TLS13)), watched, finish=False)
    assert kinds(seen) == ["HelloSeen", "SessionSeen"]
    assert watched.done
    assert watched.held == 0


def test_hello_retry_request_is_one_hello_and_one_session() -> None:
    flight = handshake(TLS13, retry=True)
    seen = run(turns(flight))
    hello, session = seen
    assert isinstance(hello, HelloSeen)
    assert isinstance(session, SessionSeen)
    assert session.hello.is_hello_retry_request
    first_group = dict(hello.hello.extensions)[51][2:4]
    assert first_group != b"\0\x18"  # secp384r1, which the second hello offers


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_resumption_is_a_session_without_certificate(version: ssl.TLSVersion) -> None:
    seen = run(turns(handshake(version, resumed=True)))
    assert kinds(seen) == ["HelloSeen", "SessionSeen"]
    session = seen[1]
    assert isinstance(session, SessionSeen)
    assert session.client is not None
    if version == TLS12:
        assert session.hello.session_id == session.client.session_id != b""


def test_a_resumed_session_is_done_when_its_clear_text_ends() -> None:
    """The kernel may copy the header of ChangeCipherSpec after the ServerHello, too."""
    flight = handshake(TLS12, resumed=True)
    server = clear_text(flight.server)
    watched = connection()
    parts = [*cut(CLIENT, clear_text(flight.client), 9_999)]
    parts.append(Part(SERVER, 0, flight.server[: len(server) + 5]))
    assert kinds(run(parts, watched, finish=False)) == ["HelloSeen", "SessionSeen"]
    assert watched.done


def test_client_certificates_are_the_clients() -> None:
    watched = connection()
    seen = run(turns(handshake(TLS12, mutual=True)), watched, finish=False)
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen", "CertificatesSeen"]
    sides = [one.from_client for one in seen if isinstance(one, CertificatesSeen)]
    assert sides == [False, True]
    assert watched.done


# --- one direction, alerts, preambles ---

FLIGHT = handshake(TLS12)
HELLO = clear_text(FLIGHT.client)[: 5 + int.from_bytes(FLIGHT.client[3:5], "big")]
ANSWER = clear_text(FLIGHT.server)


def test_an_alert_may_come_first() -> None:
    alert = record(b"\x01\x70", kind=21)
    seen = run([Part(CLIENT, 0, HELLO), Part(SERVER, 0, alert), Part(SERVER, 7, ANSWER)])
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen"]
    seen = run([Part(CLIENT, 0, alert + HELLO)])
    assert [one.quality for one in seen if isinstance(one, HelloSeen)] == ["complete"]


def test_tls_may_begin_after_other_bytes() -> None:
    starts = {CLIENT: 24, SERVER: 300}
    seen = run([Part(CLIENT, 24, HELLO), Part(SERVER, 290, bytes(10) + ANSWER)], starts=starts)
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen"]
    assert [one.offset(SYN_PACKET) for one in seen if isinstance(one, HelloSeen)] == [24]


def test_without_the_syn_the_offset_is_unknown() -> None:
    seen = run([Part(CLIENT, 24, HELLO)], connection(opened=False), starts={CLIENT: 24})
    assert [one.offset(Handshake()) for one in seen if isinstance(one, HelloSeen)] == [None]


def test_server_only() -> None:
    seen = run(cut(SERVER, ANSWER, 500))
    assert kinds(seen) == ["SessionSeen", "CertificatesSeen"]
    assert all(one.client is None for one in seen if not isinstance(one, HelloSeen))


def test_client_only() -> None:
    flight = handshake(TLS12, mutual=True)
    parts = cut(CLIENT, clear_text(flight.client), 500)
    assert kinds(run(parts)) == ["HelloSeen", "CertificatesSeen"]


@pytest.mark.parametrize("first", [CLIENT, SERVER])
def test_of_a_midstream_connection_a_hello_shows_who_the_client_is(first: int) -> None:
    watched = connection(abi.CLIENT_UNKNOWN, opened=False)
    parts = [Part(CLIENT, 0, HELLO), Part(SERVER, 0, ANSWER)]
    if first == SERVER:
        parts.reverse()
    seen = run(parts, watched, client=abi.CLIENT_UNKNOWN)
    assert watched.client == CLIENT
    assert set(kinds(seen)) == {"HelloSeen", "SessionSeen", "CertificatesSeen"}


# --- how segments come ---


def test_reordered_and_repeated_segments_make_reassembled() -> None:
    pieces = cut(CLIENT, HELLO, 100)
    seen = run([pieces[0], *reversed(pieces), *pieces])
    assert [one.quality for one in seen if isinstance(one, HelloSeen)] == ["reassembled"]


def test_the_start_may_come_last() -> None:
    seen = run(list(reversed(cut(CLIENT, HELLO, 100))))
    assert [one.quality for one in seen if isinstance(one, HelloSeen)] == ["reassembled"]


def test_a_copy_with_other_bytes_makes_overlap() -> None:
    """Bytes in order are final. Of bytes behind a hole, the segment that covers another counts."""
    pieces = cut(CLIENT, HELLO, 100)
    forged = Part(CLIENT, 20, bytes(40))
    before = [forged, *pieces]
    after = [*pieces[:1], forged, *pieces[1:]]
    behind_a_hole = [Part(CLIENT, 10, HELLO[10:100]), forged, Part(CLIENT, 0, HELLO[:10])]
    for parts in (before, after, [*behind_a_hole, *pieces[1:]]):
        hello = next(one for one in run(parts) if isinstance(one, HelloSeen))
        assert hello.quality == "overlap"
        assert hello.hello == parse_client_hello(HELLO[9:])
    covering = [Part(CLIENT, 20, HELLO[20:60]), Part(CLIENT, 11, bytes(89))]
    assert kinds(run([*covering, *pieces])) == ["AnomalySeen", "HelloSeen"]
    anomaly, hello = run([*covering, Part(CLIENT, 0, HELLO[:11]), *pieces[1:]])
    assert isinstance(anomaly, AnomalySeen)
    assert anomaly.anomaly.technique is Technique.OVERLAPPING_SEGMENTS
    assert isinstance(hello, HelloSeen)
    assert (hello.quality, hello.hello.random[:9]) == ("overlap", bytes(9))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 20])
@pytest.mark.parametrize(
    "order",
    [
        lambda pieces: pieces[::-1],
        lambda pieces: pieces[::2] + pieces[1::2],
        lambda pieces: pieces[1::2] + pieces[::2],
        lambda pieces: pieces[2:] + pieces[:2],
    ],
    ids=["backward", "even then odd", "odd then even", "beginning last"],
)
def test_a_hello_whose_start_the_kernel_cannot_see_is_read_from_the_syn_on(
    size: int, order: Callable[[list[Part]], list[Part]]
) -> None:
    """The kernel side looks for the first bytes of a record in the order in which they come."""
    seen = run(order(cut(CLIENT, HELLO, size)), starts={})
    hello = seen[0]
    assert isinstance(hello, HelloSeen)
    assert (hello.quality, hello.offset(SYN_PACKET)) == ("reassembled", 0)
    assert hello.hello == parse_client_hello(HELLO[9:])


def test_the_handshake_is_read_once_and_only_for_a_direction_without_a_start() -> None:
    asked: list[int] = []

    def find() -> Handshake:
        asked.append(1)
        return SYN_PACKET

    watched = Connection(KEY, 1, CLIENT, find, HelloCache())
    feed = Feed()
    watched.add(feed.sample(Part(CLIENT, 0, HELLO)))
    assert asked == []
    early = Connection(KEY, 1, CLIENT, find, HelloCache())
    for part in cut(CLIENT, HELLO, 3)[::-1]:
        early.add(Feed({}).sample(part))
    assert asked == [1]
    early.finish()
    assert early.hello is not None
    assert asked == [1]


def test_a_server_is_read_from_its_syn_ack_on() -> None:
    handshake_seen = Handshake(SYN_PACKET.syn, syn(seq=ISS[SERVER]))
    watched = Connection(KEY, 1, CLIENT, handshake_seen, HelloCache())
    seen = run([Part(CLIENT, 0, HELLO), *cut(SERVER, ANSWER, 4)[::-1]], watched, starts={CLIENT: 0})
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen"]


def test_a_client_is_read_from_what_the_syn_ack_acknowledged() -> None:
    synack = syn(seq=ISS[SERVER], ack=ISS[CLIENT] + 1)
    watched = Connection(KEY, 1, CLIENT, Handshake(None, synack), HelloCache())
    assert kinds(run(cut(CLIENT, HELLO, 3)[::-1], watched, starts={})) == ["HelloSeen"]


def test_other_bytes_after_the_syn_do_not_keep_a_later_hello_from_being_read() -> None:
    """A line in segments out of order, then the hello, its first bytes on their own."""
    line = cut(CLIENT, b"EHLO client.example\r\n", 4)[::-1]
    hello = [Part(CLIENT, 21, HELLO[:3]), Part(CLIENT, 24, HELLO[3:])]
    watched = connection()
    first, second = Feed({}), Feed({CLIENT: 21})
    seen = [each for part in [*line, hello[0]] for each in watched.add(first.sample(part))]
    assert seen == []
    start = second.sample(hello[0]).start_seq
    assert watched.add(replace(first.sample(hello[1]), start_seq=start)) == []
    (found,) = watched.finish()
    assert isinstance(found, HelloSeen)
    assert (found.quality, found.offset(SYN_PACKET)) == ("reassembled", 21)
    assert watched.malformed == 0


def test_an_urgent_byte_is_no_part_of_the_hello() -> None:
    for at in (0, 3, 50, len(HELLO)):
        feed = Feed()
        sample = feed.sample(Part(CLIENT, 0, HELLO[:at] + b"!" + HELLO[at:]))
        watched = connection()
        seen = watched.add(replace(sample, urgent_seq=(sample.seq + at) & 0xFFFF_FFFF))
        seen += watched.add(feed.sample(Part(CLIENT, len(HELLO) + 1, b"")))
        seen += watched.finish()
        # Only in the middle is what an application reads with SO_OOBINLINE another hello.
        assert kinds(seen) == (["AnomalySeen"] if at == 50 else []) + ["HelloSeen"]
        assert watched.hello == parse_client_hello(HELLO[9:])


def test_a_hello_that_ends_early_is_truncated() -> None:
    seen = run([Part(CLIENT, 0, HELLO[:-20])])
    hello = seen[0]
    assert isinstance(hello, HelloSeen)
    assert hello.quality == "truncated"
    assert hello.hello.cut
    assert hello.hello.server_name == b"decoy.example"


def test_a_hello_with_a_hole_has_a_gap() -> None:
    pieces = cut(CLIENT, HELLO, 100)
    hello = run([pieces[0], *pieces[2:]])[0]
    assert isinstance(hello, HelloSeen)
    assert hello.quality == "gap"


def test_a_hello_that_the_capture_cut_has_a_gap() -> None:
    hello = run([Part(CLIENT, 0, HELLO[:-20], len(HELLO))])[0]
    assert isinstance(hello, HelloSeen)
    assert hello.quality == "gap"


def test_a_hello_after_bytes_that_never_came_is_reported_at_the_end() -> None:
    """The kernel saw no start, because what comes before the hello was lost."""
    watched = connection()
    seen = run([Part(CLIENT, 50, HELLO[:90]), Part(CLIENT, 140, HELLO[90:])], watched, starts={})
    hello = seen[0]
    assert isinstance(hello, HelloSeen)
    assert (hello.quality, hello.offset(SYN_PACKET)) == ("reassembled", 50)
    assert hello.hello.server_name == b"decoy.example"


def test_a_truncated_message_gives_the_certificates_that_are_whole() -> None:
    chain = vector(3, vector(3, b"leaf") + vector(3, b"issuer"))
    data = record(message(2, server_hello()) + message(11, chain)[:-3])
    seen = run([Part(CLIENT, 0, HELLO), Part(SERVER, 0, data)])
    certificates = seen[-1]
    assert isinstance(certificates, CertificatesSeen)
    assert (certificates.chain, certificates.chain_length) == ((b"leaf",), None)
    assert certificates.quality == "truncated"


def test_several_messages_in_one_record_and_one_message_in_several() -> None:
    both = message(2, server_hello()) + message(11, vector(3, vector(3, b"x" * 300)))
    one = run([Part(SERVER, 0, record(both))])
    several = run([Part(SERVER, 0, b"".join(record(both[n : n + 7]) for n in range(0, 400, 7)))])
    assert without_quality(one) == without_quality(several)
    assert [o.quality for o in one if isinstance(o, CertificatesSeen)] == ["complete"]
    assert [o.quality for o in several if isinstance(o, CertificatesSeen)] == ["reassembled"]


# --- the session waits for its hello ---


def test_the_session_waits_for_a_hello_under_way() -> None:
    watched = connection()
    pieces = cut(CLIENT, HELLO, 100)
    seen = run([pieces[0], *pieces[2:], Part(SERVER, 0, ANSWER)], watched, finish=False)
    assert seen == []
    feed = Feed({})
    seen = watched.add(replace(feed.sample(pieces[1]), time_ns=99_000))
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen"]
    hello, session, certificates = seen
    assert isinstance(session, SessionSeen)
    assert isinstance(certificates, CertificatesSeen)
    assert session.client is certificates.client is watched.hello
    assert hello.time_ns == 99_000
    assert session.time_ns < hello.time_ns
    assert watched.done


def test_at_the_end_the_session_waits_no_longer() -> None:
    pieces = cut(CLIENT, HELLO, 100)
    seen = run([pieces[0], Part(SERVER, 0, ANSWER)])
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen"]
    hello = seen[0]
    assert isinstance(hello, HelloSeen)
    assert hello.hello.cut


# --- roles of TLS, and hellos that are not answered ---

OTHER = record(message(1, client_hello((0, vector(2, b"\0" + vector(2, b"bogus.example"))))))


def test_who_opened_the_connection_may_be_the_tls_server() -> None:
    """FTPS in active mode, NETCONF call home, malware that connects back."""
    parts = [
        Part(SERVER if part.sender == CLIENT else CLIENT, part.offset, part.data)
        for part in turns(handshake(TLS12, mutual=True))
    ]
    watched = connection()
    seen = run(parts, watched, finish=False)
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen", "CertificatesSeen"]
    assert all(not isinstance(one, AnomalySeen) and one.reversed for one in seen)
    assert [one.from_client for one in seen if isinstance(one, CertificatesSeen)] == [False, True]
    assert watched.client == CLIENT
    assert watched.done
    assert watched.misplaced == 0


def test_an_unanswered_hello_of_the_tcp_server_is_reported_at_the_end() -> None:
    (hello,) = run([Part(SERVER, 0, HELLO)])
    assert isinstance(hello, HelloSeen)
    assert hello.reversed


def test_the_offset_of_a_reversed_hello_counts_from_the_syn_ack() -> None:
    opened = Handshake(SYN_PACKET.syn, syn(seq=ISS[SERVER]))
    (hello,) = run([Part(SERVER, 30, HELLO)], starts={SERVER: 30})
    assert isinstance(hello, HelloSeen)
    assert hello.offset(opened) == 30


def segments(*turns: tuple[int, int, bytes, int | None]) -> list[Observation]:
    """What segments show: (sender, offset, bytes, offset at which the kernel marks a start)."""
    watched = connection()
    watched.handshake = Handshake(SYN_PACKET.syn, syn(seq=ISS[SERVER]))
    seen: list[Observation] = []
    for sender, offset, data, start in turns:
        sample = Feed({}).sample(Part(sender, offset, data))
        if start is not None:
            sample = replace(sample, start_seq=ISS[sender] + 1 + start & 0xFFFF_FFFF)
        seen += watched.add(sample)
    return seen + watched.finish()


def shown(seen: list[Observation]) -> list[tuple[str, bytes | None]]:
    return [
        (type(one).__name__, one.hello.server_name)
        for one in seen
        if isinstance(one, HelloSeen | AnomalySeen) and one.hello is not None
    ]


def believed(seen: list[Observation]) -> tuple[str, Technique]:
    """The quality of the hello that is reported, and what is said of the other one."""
    (hello, anomaly, *_) = seen
    assert isinstance(hello, HelloSeen)
    assert isinstance(anomaly, AnomalySeen)
    return hello.quality, anomaly.anomaly.technique


def test_of_two_hellos_the_answered_one_is_reported() -> None:
    """The first is a line to a mail server, which says so before STARTTLS."""
    line = b"\r\nSTARTTLS\r\n"
    second = len(OTHER) + len(line)
    seen = segments(
        (CLIENT, 0, OTHER, 0),
        (SERVER, 0, b"500 what?\r\n", None),
        (CLIENT, len(OTHER), line, None),
        (SERVER, 11, b"220 go ahead\r\n", None),
        (CLIENT, second, HELLO, second),
        (SERVER, 25, ANSWER, 25),
    )
    assert kinds(seen) == ["HelloSeen", "AnomalySeen", "SessionSeen", "CertificatesSeen"]
    assert shown(seen) == [("HelloSeen", b"decoy.example"), ("AnomalySeen", b"bogus.example")]
    session = seen[2]
    assert isinstance(session, SessionSeen)
    assert session.client is not None
    assert session.client.server_name == b"decoy.example"


def test_a_line_inside_a_hello_makes_the_next_record_the_answered_one() -> None:
    seen = segments(
        (CLIENT, 0, OTHER + HELLO, 0),
        (SERVER, 0, b"500 what?\r\n220 go ahead\r\n", None),
        (SERVER, 25, ANSWER, 25),
    )
    assert shown(seen) == [("HelloSeen", b"decoy.example"), ("AnomalySeen", b"bogus.example")]


def test_of_hellos_in_one_run_of_records_the_first_is_answered() -> None:
    seen = segments((CLIENT, 0, HELLO + OTHER, 0), (SERVER, 0, ANSWER, 0))
    assert shown(seen) == [("HelloSeen", b"decoy.example"), ("AnomalySeen", b"bogus.example")]


MUTUAL = handshake(TLS12, mutual=True)


def test_a_certificate_before_the_answer_is_no_clients() -> None:
    """Lines of another protocol may look like a whole flight."""
    line, ready = b"\r\nSTARTTLS\r\n", b"500 what?\r\n220 go ahead\r\n"
    second = len(MUTUAL.client) + len(line)
    seen = segments(
        (CLIENT, 0, MUTUAL.client + line, 0),
        (SERVER, 0, ready, None),
        (CLIENT, second, HELLO, second),
        (SERVER, len(ready), ANSWER, len(ready)),
    )
    chains = [each for each in seen if isinstance(each, CertificatesSeen)]
    assert [each.from_client for each in chains] == [False]


def test_the_certificate_of_a_client_whose_hello_was_not_seen_is_reported() -> None:
    at = MUTUAL.client.index(b"\x16\3\3", 9)
    seen = segments((CLIENT, at, MUTUAL.client[at:], at))
    chains = [each for each in seen if isinstance(each, CertificatesSeen)]
    assert [each.from_client for each in chains] == [True]


def test_hellos_after_an_encrypted_record_count_until_one_is_answered() -> None:
    end = record(b"\1", 20) + record(bytes(40), 23)
    second = len(OTHER) + len(end)
    seen = segments(
        (CLIENT, 0, OTHER + end, 0),
        (SERVER, 0, b"500 what?\r\n", None),
        (CLIENT, second, HELLO, second),
        (SERVER, 11, ANSWER, 11),
    )
    assert shown(seen) == [("HelloSeen", b"decoy.example"), ("AnomalySeen", b"bogus.example")]


@pytest.mark.parametrize(
    "between",
    [record(b"\1", 20) + record(bytes(40), 23), b"\r\nSTARTTLS\r\n"],
    ids=["records", "a line"],
)
def test_a_hello_that_comes_after_the_answered_one_does_not_replace_it(between: bytes) -> None:
    """The server says nothing else, and its ServerHello is the first that it says at all."""
    second = len(HELLO) + len(between)
    seen = segments(
        (CLIENT, 0, HELLO + between, 0),
        (CLIENT, second, OTHER, second),
        (SERVER, 0, ANSWER, 0),
    )
    assert shown(seen) == [("HelloSeen", b"decoy.example"), ("AnomalySeen", b"bogus.example")]
    assert believed(seen) == ("complete", Technique.UNANSWERED_HELLO)


def test_if_the_server_said_something_before_no_rule_decides_between_two_hellos() -> None:
    """A server of MySQL says nothing between its greeting and its ServerHello."""
    second = len(HELLO) + 5
    seen = segments(
        (SERVER, 0, b"\x4a\0\0\0\x0a8.0.36\0", None),
        (CLIENT, 0, HELLO + b"bytes", 0),
        (CLIENT, second, OTHER, second),
        (SERVER, 13, ANSWER, 13),
    )
    assert shown(seen) == [("HelloSeen", b"decoy.example"), ("AnomalySeen", b"bogus.example")]
    assert believed(seen) == ("contested", Technique.CONTESTED_HELLO)


def test_unanswered_hellos_are_bounded() -> None:
    count = OFFERED_HELLOS + 3
    parts = [(CLIENT, n * 1_000, OTHER, n * 1_000) for n in range(count)]
    seen = segments(*parts)
    assert [kind for kind, _ in shown(seen)].count("AnomalySeen") == count - 1
    assert [kind for kind, _ in shown(seen)].count("HelloSeen") == 1


def test_the_session_has_the_server_hello_after_a_retry() -> None:
    flight = handshake(TLS13, retry=True)
    hello = 5 + int.from_bytes(flight.client[3:5], "big")
    retry = 5 + int.from_bytes(flight.server[3:5], "big")
    watched = connection()
    feed = Feed()
    seen = watched.add(feed.sample(Part(CLIENT, 0, flight.client[:hello])))
    seen += watched.add(feed.sample(Part(SERVER, 0, flight.server[:retry])))
    assert kinds(seen) == ["HelloSeen"]
    seen = watched.add(feed.sample(Part(CLIENT, hello, flight.client[hello:])))
    assert seen == []
    (session,) = watched.add(feed.sample(Part(SERVER, retry, flight.server[retry:])))
    assert isinstance(session, SessionSeen)
    assert session.hello.is_hello_retry_request
    assert session.after_retry is not None
    assert not session.after_retry.is_hello_retry_request
    assert session.resumed is False
    assert watched.done


def test_a_hello_of_ssl2_is_answered() -> None:
    (hello, *rest) = segments((CLIENT, 0, SSL2, 0), (SERVER, 0, ANSWER, 0))
    assert isinstance(hello, HelloSeen)
    assert (hello.hello.ssl2, hello.hello.legacy_version) == (True, 0x0301)
    assert kinds(rest) == ["SessionSeen", "CertificatesSeen"]


def test_tls_in_packets_of_tds() -> None:
    def packets(data: bytes, size: int) -> bytes:
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        return b"".join(b"\x12\x01" + u16(8 + len(each)) + bytes(4) + each for each in pieces)

    seen = segments((CLIENT, 0, packets(HELLO, 9_999), 8), (SERVER, 50, packets(ANSWER, 300), 58))
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen"]


@pytest.mark.parametrize("size", [33, 255])
def test_a_long_session_id_may_only_be_the_clients(size: int) -> None:
    hello = bytearray(client_hello())
    hello[34:35] = bytes([size]) + b"i" * size
    for byte, expected in ((b"i", ["HelloSeen", "SessionSeen"]), (b"j", ["HelloSeen"])):
        body = bytearray(server_hello())
        body[34 : 35 + body[34]] = bytes([size]) + byte * size
        seen = segments(
            (CLIENT, 0, record(message(1, bytes(hello))), 0),
            (SERVER, 0, record(message(2, bytes(body))), 0),
        )
        assert kinds(seen) == expected


# --- what is out of place ---


def test_an_attackers_server_flight_is_not_the_deckys() -> None:
    watched = connection()
    seen = run([Part(CLIENT, 0, HELLO + ANSWER)], watched)
    assert kinds(seen) == ["HelloSeen", "CertificatesSeen"]
    certificates = seen[1]
    assert isinstance(certificates, CertificatesSeen)
    assert certificates.from_client
    assert watched.misplaced == 1


def test_a_server_hello_of_the_client_is_not_reported() -> None:
    watched = connection()
    data = record(message(2, server_hello()))
    assert run([Part(CLIENT, 0, data)], watched) == []
    assert watched.misplaced == 1


def test_an_echoed_hello_is_the_clients() -> None:
    """To a service that sends back what it gets, neither hello is answered."""
    seen = run([Part(CLIENT, 0, HELLO), Part(SERVER, 0, HELLO)])
    assert kinds(seen) == ["HelloSeen", "AnomalySeen"]
    hello, echo = seen
    assert isinstance(hello, HelloSeen)
    assert isinstance(echo, AnomalySeen)
    assert (hello.reversed, echo.sender) == (False, SERVER)


def test_a_certificate_before_the_server_hello_is_out_of_place() -> None:
    watched = connection()
    chain = message(11, vector(3, vector(3, b"leaf")))
    data = record(chain + message(2, server_hello()) + chain + chain)
    seen = run([Part(SERVER, 0, data)], watched)
    assert kinds(seen) == ["SessionSeen", "CertificatesSeen"]
    assert watched.misplaced == 2


def test_a_second_server_hello_is_out_of_place() -> None:
    watched = connection()
    data = record(message(2, server_hello()) + message(2, server_hello(suite=0x2F)))
    seen = run([Part(SERVER, 0, data)], watched)
    assert kinds(seen) == ["SessionSeen"]
    assert watched.misplaced == 1


@pytest.mark.parametrize(
    "body",
    [b"", bytes(30), server_hello(version=0x1234), server_hello()[:-1], u16(0x0303) + b"\xff" * 60],
)
def test_random_bytes_are_no_server_hello(body: bytes) -> None:
    watched = connection()
    seen = run([Part(CLIENT, 0, HELLO), Part(SERVER, 0, record(message(2, body)))], watched)
    assert kinds(seen) == ["HelloSeen"]
    assert watched.malformed == 1


def test_a_client_without_certificate_gives_no_event() -> None:
    data = record(message(11, vector(3, b"")))
    assert kinds(run([Part(CLIENT, 0, HELLO + data)])) == ["HelloSeen"]


def test_a_malformed_certificate_message_is_counted() -> None:
    watched = connection()
    data = record(message(2, server_hello()) + message(11, b"\0\0\5abc"))
    assert kinds(run([Part(SERVER, 0, data)], watched)) == ["SessionSeen"]
    assert watched.malformed == 1


# --- bytes that only look like TLS ---


@pytest.mark.parametrize(
    "decoy",
    [
        b"\x16\x03\x01\x00\x06\x01junk!" + b"\x00" * 20,
        record(message(1, b"no hello at all")),
        b"\x15\x03\x01\x00\x02\x01\x00garbage after an alert",
        b"\x16\x03\x01\x00\x01\x01\r\n",
    ],
)
def test_a_false_record_does_not_keep_the_hello_after_it_from_being_read(decoy: bytes) -> None:
    """As before STARTTLS: the kernel marks a second start when it sees the real hello."""
    watched = connection()
    first, second = Feed(), Feed({CLIENT: len(decoy), SERVER: 0})
    seen = watched.add(first.sample(Part(CLIENT, 0, decoy)))
    assert seen == []
    assert not watched.done
    seen = watched.add(second.sample(Part(CLIENT, len(decoy), HELLO)))
    seen += watched.add(second.sample(Part(SERVER, 0, ANSWER)))
    assert kinds(seen) == ["HelloSeen", "SessionSeen", "CertificatesSeen"]
    assert watched.malformed == 1
    hello = seen[0]
    assert isinstance(hello, HelloSeen)
    assert hello.offset(SYN_PACKET) == len(decoy)


def test_garbage_after_an_answered_hello_closes_the_direction() -> None:
    watched = connection()
    parts = [Part(CLIENT, 0, HELLO), Part(SERVER, 0, ANSWER[:200])]
    assert kinds(run(parts, watched, finish=False)) == ["HelloSeen", "SessionSeen"]
    end = len(HELLO)
    assert watched.add(Feed({}).sample(Part(CLIENT, end, b"GET / HTTP/1.1\r\n"))) == []
    assert watched.malformed == 1
    assert watched.sides[CLIENT].closed
    assert watched.add(Feed({}).sample(Part(CLIENT, end, b"GET / HTTP/1.1\r\n"))) == []
    assert watched.malformed == 1


# --- bounds ---


def test_segments_before_a_start_are_bounded_in_number_and_bytes() -> None:
    many = connection()
    for n in range(STREAM_PIECES + 100):
        many.add(Feed({}).sample(Part(CLIENT, 1 + 2 * n, b"x")))
    # Behind a hole, both copies of the stream are kept.
    assert many.held == 2 * STREAM_PIECES * (PIECE_BYTES + 1)
    large = connection(opened=False)
    for n in range(20):
        large.add(Feed({}).sample(Part(CLIENT, n * 32_000, bytes(32_000))))
    assert large.held <= STREAM_BYTES + 3 * PIECE_BYTES
    for watched, dropped in ((many, 100), (large, 18 * 32_000)):
        watched.finish()
        assert watched.sides[CLIENT].dropped == dropped


def test_a_huge_message_is_refused() -> None:
    watched = connection()
    claim = bytes([11]) + (HANDSHAKE_BYTES + 1).to_bytes(3, "big")
    parts = [Part(SERVER, 0, record(message(2, server_hello()))), Part(SERVER, 95, record(claim))]
    start = len(parts[0].data)
    parts[1] = parts[1]._replace(offset=start)
    assert kinds(run(parts, watched, finish=False)) == ["SessionSeen"]
    assert watched.malformed == 1
    assert watched.held == parse_server_hello(server_hello()).memory


FLIGHTS = [
    handshake(TLS12),
    handshake(TLS12, mutual=True),
    handshake(TLS12, resumed=True),
    handshake(TLS13),
    handshake(TLS13, retry=True),
]


@settings(max_examples=120)
@given(st.data())
def test_cutting_and_shuffling_changes_no_observation(data: st.DataObject) -> None:
    """Each turn of the conversation is cut anywhere, shuffled, and parts of it repeated."""
    flight = data.draw(st.sampled_from(FLIGHTS))
    offset = data.draw(st.sampled_from([0, 1, 5_000]))
    whole = [part._replace(offset=part.offset + offset) for part in turns(flight, 99_999)]
    starts = {CLIENT: offset, SERVER: offset}
    expected = without_quality(run(whole, starts=starts))
    parts: list[Part] = []
    for turn in whole:
        ends = sorted(data.draw(st.lists(st.integers(0, len(turn.data)), max_size=12)))
        pieces = [
            Part(turn.sender, turn.offset + start, turn.data[start:end])
            for start, end in zip([0, *ends], [*ends, len(turn.data)], strict=True)
            if end > start
        ]
        for _ in range(data.draw(st.integers(0, 3))):
            start = data.draw(st.integers(0, len(turn.data) - 1))
            end = data.draw(st.integers(start + 1, len(turn.data)))
            pieces.append(Part(turn.sender, turn.offset + start, turn.data[start:end]))
        random.Random(data.draw(st.integers(0, 999))).shuffle(pieces)
        parts += pieces
    assert without_quality(run(parts, starts=starts)) == expected


@settings(max_examples=120)
@given(st.data())
def test_no_bytes_raise_or_hold_more_than_the_bound(data: st.DataObject) -> None:
    """Flights with bytes changed, from either side, in any order, with any start."""
    watched = connection(data.draw(st.sampled_from([CLIENT, SERVER, abi.CLIENT_UNKNOWN])))
    feed = Feed(None)
    for _ in range(data.draw(st.integers(1, 12))):
        flight = data.draw(st.sampled_from(FLIGHTS))
        source = bytearray(data.draw(st.sampled_from([flight.client, flight.server])))
        for _ in range(data.draw(st.integers(0, 3))):
            source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
        start = data.draw(st.integers(0, 600))
        part = Part(
            data.draw(st.sampled_from([CLIENT, SERVER])),
            data.draw(st.integers(-5, 3_000)),
            bytes(source[start : start + data.draw(st.integers(0, 2_000))]),
        )
        sample = feed.sample(part)
        if data.draw(st.booleans()):
            sample = replace(sample, start_seq=sample.seq)
        watched.add(sample)
        pieces = PIECE_BYTES * STREAM_PIECES
        assert 0 <= watched.held <= 2 * (STREAM_BYTES + pieces + HANDSHAKE_BYTES)
    watched.finish()
    assert watched.held == 0
    assert watched.done


@settings(max_examples=200)
@given(st.data())
def test_messages_that_come_whole_are_as_if_put_together(data: st.DataObject) -> None:
    """The usual first segment opens no stream, and no later segment may show the difference."""
    client = data.draw(st.sampled_from([CLIENT, SERVER, abi.CLIENT_UNKNOWN]))
    usual, general = connection(client), connection(client)
    feed = Feed({})
    for _ in range(data.draw(st.integers(1, 6))):
        flight = data.draw(st.sampled_from(FLIGHTS))
        source = bytearray(data.draw(st.sampled_from([flight.client, flight.server])))
        if data.draw(st.booleans()):
            source[data.draw(st.integers(0, 99))] = data.draw(st.integers(0, 255))
        record_end = 5 + int.from_bytes(source[3:5], "big")
        start = data.draw(st.sampled_from([0, 0, 0, record_end, 7]))
        clear_end = len(clear_text(bytes(source)))
        ends = [record_end, record_end, clear_end, clear_end, record_end + 1, len(source)]
        end = data.draw(st.sampled_from(ends))
        sample = feed.sample(
            Part(data.draw(st.sampled_from([CLIENT, SERVER])), start, bytes(source[start:end]))
        )
        sample = replace(
            sample,
            start_seq=sample.seq - start & 0xFFFF_FFFF if data.draw(st.booleans()) else None,
            claimed=sample.claimed + data.draw(st.sampled_from([0, 0, 50])),
            ends=data.draw(st.booleans()),
        )
        seen = usual.add(sample)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("deckwire.connections.direction.whole_messages", lambda _: [])
            assert general.add(sample) == seen
        assert traits(usual) == traits(general)
    assert usual.finish() == general.finish()
    assert traits(usual) == traits(general)


def test_what_the_capture_cut_after_a_whole_message_is_remembered() -> None:
    first = record(message(20, b"whole"))
    hello = record(message(1, client_hello((0, b""))))
    parts = [
        Part(CLIENT, 0, first, claimed=len(first) + len(hello)),
        Part(CLIENT, len(first), hello[:-2]),
    ]
    assert [seen.quality for seen in run(parts) if isinstance(seen, HelloSeen)] == ["gap"]


def traits(watched: Connection) -> tuple[int, bool, int, int, int]:
    return watched.held, watched.done, watched.client, watched.misplaced, watched.malformed


def test_a_malformed_hello_is_not_reported_however_often_it_comes() -> None:
    watched = connection()
    bad = record(message(1, client_hello()[:20]))
    assert run([Part(CLIENT, 0, bad), Part(CLIENT, 0, bad)], watched) == []
    assert watched.hello is None
    assert watched.malformed >= 1
