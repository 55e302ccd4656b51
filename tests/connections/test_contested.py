"""Two copies of a hello: the one that is believed is emitted, the other one is an anomaly."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from deckwire.abi.samples import SackSample, SegmentSample, SuppressedHello
from deckwire.connections.connection import Connection
from deckwire.connections.direction import Direction
from deckwire.connections.observations import AnomalySeen, HelloSeen, Observation
from deckwire.tcp.anomaly import Technique
from deckwire.tls.hello_cache import HelloCache
from deckwire.tls.messages import ClientHello, parse_client_hello
from tests.connections.test_connection import CLIENT, ISS, KEY, SYN_PACKET, Part, connection, run
from tests.support.flights import client_hello, message, record, u16, vector


def hello(name: bytes) -> bytes:
    return record(message(1, client_hello((0, vector(2, b"\0" + vector(2, name))))))


A, B = hello(b"aaaa.example"), hello(b"bbbb.example")
NAME = A.index(b"aaaa")
FIRST = Part(CLIENT, 0, A[: NAME - 10])
LAST = Part(CLIENT, NAME + 30, A[NAME + 30 :])
ADJACENT = [
    Part(CLIENT, NAME - 10, A[NAME - 10 : NAME]),
    Part(CLIENT, NAME, A[NAME : NAME + 4]),
    Part(CLIENT, NAME - 5, B[NAME - 5 : NAME + 30]),
]
"""Linux appends the second to the first and keeps both, or replaces the second by the third."""


def hellos(seen: list[Observation]) -> list[tuple[bytes | None, str]]:
    return [(s.hello.server_name, s.quality) for s in seen if isinstance(s, HelloSeen)]


def anomalies(seen: list[Observation]) -> list[tuple[Technique, bytes | None]]:
    return [
        (s.anomaly.technique, None if s.hello is None else s.hello.server_name)
        for s in seen
        if isinstance(s, AnomalySeen)
    ]


def test_adjacent_pieces_are_contested() -> None:
    seen = run([*ADJACENT, LAST, FIRST])
    assert hellos(seen) == [(b"aaaa.example", "contested")]
    assert (Technique.CONTESTED_HELLO, b"bbbb.example") in anomalies(seen)


def test_the_same_with_the_other_bytes_first() -> None:
    """Which copy is emitted follows the first rule of Linux; the other is never lost."""
    swapped = [part._replace(data=_other(part)) for part in [*ADJACENT, LAST, FIRST]]
    seen = run(swapped)
    assert hellos(seen) == [(b"bbbb.example", "contested")]
    assert (Technique.CONTESTED_HELLO, b"aaaa.example") in anomalies(seen)


def _other(part: Part) -> bytes:
    whole = A if B[part.offset :].startswith(part.data) and part.data not in A else B
    return whole[part.offset : part.offset + len(part.data)]


def test_copies_in_packets_of_tds_are_contested() -> None:
    """The headers of packets are no part of either copy."""

    def packets(data: bytes) -> bytes:
        pieces = data[:20], data[20:]
        return b"".join(b"\x12\x01" + u16(8 + len(each)) + bytes(4) + each for each in pieces)

    a, b = packets(A), packets(B)
    name = a.index(b"aaaa")
    adjacent = [
        Part(CLIENT, name - 10, a[name - 10 : name]),
        Part(CLIENT, name, a[name : name + 4]),
        Part(CLIENT, name - 5, b[name - 5 :]),
    ]
    first, hole = Part(CLIENT, 0, a[:25]), Part(CLIENT, 25, a[25 : name - 10])
    seen = run([first, *adjacent, hole], starts={CLIENT: 8})
    assert hellos(seen) == [(b"aaaa.example", "contested")]
    assert (Technique.CONTESTED_HELLO, b"bbbb.example") in anomalies(seen)


def test_a_hello_that_comes_later_is_not_contested_by_the_copy_of_the_first() -> None:
    later = hello(b"cccc.example")
    watched = connection()
    seen = run([*ADJACENT, LAST, FIRST], watched, finish=False)
    text = Part(CLIENT, len(A), record(b"data", kind=23))
    seen += run([text, Part(CLIENT, 2_000, later)], watched, starts={CLIENT: 2_000})
    assert hellos(seen) == [(b"cccc.example", "complete")]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_pieces_that_agree_are_not_contested(order: tuple[int, ...]) -> None:
    edges = [0, 20, 41, 60, len(A)]
    parts = [Part(CLIENT, edges[n], A[edges[n] : edges[n + 1]]) for n in order]
    seen = run(parts)
    (found,) = hellos(seen)
    assert found[0] == b"aaaa.example"
    assert found[1] != "contested"
    assert anomalies(seen) == []


def test_an_overlap_that_the_rules_decide_is_no_contest() -> None:
    """In order, the first copy counts, whatever the buffers do."""
    seen = run([Part(CLIENT, 0, A[:-4]), Part(CLIENT, 0, B[:-4]), Part(CLIENT, len(A) - 4, A[-4:])])
    assert hellos(seen) == [(b"aaaa.example", "overlap")]
    assert anomalies(seen) == [(Technique.OVERLAPPING_SEGMENTS, None)]


def test_a_second_whole_hello_is_named() -> None:
    seen = run([Part(CLIENT, 0, A), Part(CLIENT, 0, B)])
    assert hellos(seen) == [(b"aaaa.example", "complete")]
    assert anomalies(seen) == [(Technique.OVERLAPPING_SEGMENTS, b"bbbb.example")]


def test_of_two_hellos_in_a_row_that_nobody_answers_the_first_counts() -> None:
    """A server answers the first one of a run of records."""
    seen = run([Part(CLIENT, 0, A), Part(CLIENT, len(A), B)])
    assert hellos(seen) == [(b"aaaa.example", "complete")]
    assert anomalies(seen) == [(Technique.UNANSWERED_HELLO, b"bbbb.example")]


def test_a_retransmission_is_no_anomaly() -> None:
    seen = run([Part(CLIENT, 0, A), Part(CLIENT, 0, A)])
    assert anomalies(seen) == []


def segment(offset: int, data: bytes, urgent: int | None = None) -> SegmentSample:
    return SegmentSample(
        time_ns=1_000,
        born_ns=1,
        key=KEY,
        sender=CLIENT,
        client=CLIENT,
        midstream=False,
        seq=ISS[CLIENT] + 1 + offset & 0xFFFF_FFFF,
        start_seq=ISS[CLIENT] + 1 if offset == 0 else None,
        payload=data,
        claimed=len(data),
        urgent_seq=None if urgent is None else ISS[CLIENT] + 1 + urgent & 0xFFFF_FFFF,
    )


def test_an_urgent_byte_is_contested() -> None:
    """An application that reads urgent bytes in line reads another name, of another hello."""
    left_out = hello(b"a.example")
    at = left_out.index(b"a.example")
    # Read in line, the byte pushes the last one of the record into the next.
    sent = left_out[:at] + b"X" + left_out[at:]
    watched = connection()
    seen = watched.add(segment(0, sent, urgent=at)) + watched.finish()
    ((name, quality),) = hellos(seen)
    assert name == b"a.example"
    assert quality == "contested"
    assert (Technique.CONTESTED_HELLO, b"Xa.exampl") in anomalies(seen)


def test_the_memory_of_both_copies_is_counted() -> None:
    """Both records of a large hello wait for their ends in two readers."""
    large = record(message(1, client_hello(suites=bytes(8_000))))
    watched = connection()
    watched.add(segment(0, large[:4_000]))
    one = watched.held
    watched.add(segment(4_000, large[4_000:6_000], urgent=4_000))
    assert one > 3_900
    assert watched.held > 11_800
    seen = watched.add(segment(6_000, large[6_000:] + b"XX")) + watched.finish()
    assert [quality for _, quality in hellos(seen)] == ["contested"]
    assert watched.held == 0


def test_a_restart_leaves_only_what_the_whole_direction_is_about() -> None:
    large = record(message(1, client_hello(suites=bytes(8_000))))
    direction, fresh = Direction(), Direction()
    direction.anchor(ISS[CLIENT] + 1)
    direction.add(segment(4_000, large[4_000:5_000]))
    direction.add(segment(0, large[:3_000]))
    direction.add(segment(3_000, large[3_000:4_000], urgent=3_500))
    direction.add(segment(3_000, bytes(1_000)))
    names = [name for name in vars(Direction) if not name.startswith("__")]
    state = [name for name in names if not callable(getattr(fresh, name))]

    def changed() -> set[str]:
        return {name for name in state if getattr(direction, name) != getattr(fresh, name)}

    assert changed() >= {"start_seq", "_anchor", "_stream", "_reader", "_other"}
    direction.restart()
    whole = {"last_ns", "is_new", "dropped", "other_hello", "_other_held"}
    assert changed() <= whole | {"held", "waiting", "_stream"}
    assert direction.held < 1_200
    direction.close()
    direction.restart()
    assert not direction.closed


def test_a_hello_that_only_the_other_copy_gives_is_counted() -> None:
    """Without its urgent byte the record is short of one, and waits."""
    at = len(A) - 4
    watched = connection()
    watched.add(segment(0, A[:10]))
    watched.add(segment(10, A[10:], urgent=at))
    assert watched.held > 2 * len(A) - 20
    assert hellos(watched.finish()) == [(b"aaaa.example", "contested")]
    assert watched.held == 0


def test_a_malformed_hello_of_the_other_copy_conceals_no_unfinished_one() -> None:
    """Read in line, the urgent byte is a part of the message's length, which is then shorter."""
    whole = record(message(1, client_hello(suites=bytes(300))))
    watched = connection()
    watched.add(segment(0, whole[:8] + b"\x21", urgent=8))
    watched.add(segment(9, whole[8:-10]))
    seen = watched.finish()
    assert [quality for _, quality in hellos(seen)] == ["truncated"]


@pytest.mark.parametrize(
    ("headers", "fragmented", "name"),
    [(40, False, b"aaaa.example"), (180, False, b"bbbb.example"), (40, True, b"bbbb.example")],
    ids=["room in the buffer", "no room", "from fragments"],
)
def test_which_copy_is_believed_depends_on_the_buffers(
    headers: int, fragmented: bool, name: bytes
) -> None:
    """Appended, the first two pieces cover the third; apart, its end counts."""
    parts = [
        Part(CLIENT, NAME - 10, A[NAME - 10 : NAME]),
        Part(CLIENT, NAME, A[NAME : NAME + 30]),
        Part(CLIENT, NAME - 5, B[NAME - 5 : NAME + 30]),
    ]
    watched = connection()
    for part in [*parts[:1], parts[1]._replace(data=parts[1].data[:4]), parts[2], LAST, FIRST]:
        sample = segment(part.offset, part.data)
        watched.add(replace(sample, headers=headers, fragmented=fragmented))
    seen = watched.finish()
    ((found, quality),) = hellos(seen)
    assert (found, quality) == (name, "contested")


# --- what the receiver says of the last segment ---


def sack(*blocks: tuple[int, int]) -> SackSample:
    base = ISS[CLIENT] + 1
    wrapped = tuple((base + a & 0xFFFF_FFFF, base + b & 0xFFFF_FFFF) for a, b in blocks)
    return SackSample(1_000, 1, KEY, 1 - CLIENT, base & 0xFFFF_FFFF, wrapped)


def held(watched: Connection, *parts: Part) -> None:
    """Segments behind a hole, of which the receiver has said something, but of the last one."""
    for number, part in enumerate(parts):
        watched.add(segment(part.offset, part.data))
        if number < len(parts) - 1:
            watched.sides[CLIENT].prove(sack((part.offset, part.offset + len(part.data))))


LAST_ONE = Part(CLIENT, NAME + 4, A[NAME + 4 : NAME + 30])
"""Behind a piece that ends there, and inside another one: appended to the first, or not."""


COVERED = [
    Part(CLIENT, NAME - 10, A[NAME - 10 : NAME + 4]),
    Part(CLIENT, NAME, hello(b"aaaabbbbbbbb")[NAME : NAME + 8]),
    LAST_ONE,
]
"""A piece, one over its end with other bytes, and one that the first may be joined with."""


@pytest.mark.parametrize(
    ("blocks", "name"),
    [
        ([(NAME - 10, NAME + 30)], b"aaaa.example"),
        ([(NAME + 4, NAME + 8), (NAME - 10, NAME + 30)], b"aaaabbbbmple"),
    ],
    ids=["joined", "kept apart"],
)
def test_a_receiver_that_says_what_came_twice_decides(
    blocks: list[tuple[int, int]], name: bytes
) -> None:
    watched = connection()
    held(watched, *COVERED)
    watched.sides[CLIENT].prove(sack(*blocks))
    seen = run([LAST, Part(CLIENT, 0, A[: NAME - 10])], watched)
    assert hellos(seen) == [(name, "overlap")]
    assert Technique.CONTESTED_HELLO not in [technique for technique, _ in anomalies(seen)]


def test_what_fits_no_copy_decides_nothing() -> None:
    watched = connection()
    held(watched, *COVERED)
    watched.sides[CLIENT].prove(sack((NAME + 5, NAME + 8), (NAME - 10, NAME + 30)))
    seen = run([LAST, Part(CLIENT, 0, A[: NAME - 10])], watched)
    assert [quality for _, quality in hellos(seen)] == ["contested"]


def test_of_two_segments_at_once_nothing_is_decided() -> None:
    watched = connection()
    for part in COVERED:
        watched.add(segment(part.offset, part.data))
    watched.sides[CLIENT].prove(sack((NAME + 4, NAME + 8), (NAME - 10, NAME + 30)))
    seen = run([LAST, Part(CLIENT, 0, A[: NAME - 10])], watched)
    assert [quality for _, quality in hellos(seen)] == ["contested"]


# --- bytes at the place of a suppressed hello ---

KNOWN = parse_client_hello(A[9:])


def suppressed(known: ClientHello | None = KNOWN) -> Connection:
    watched = Connection(KEY, 1, CLIENT, SYN_PACKET, HelloCache())
    end = ISS[CLIENT] + 1 + len(A) & 0xFFFF_FFFF
    watched.recall(known, lambda: SuppressedHello(5, 0, end, 7))
    return watched


def add(watched: Connection, *parts: tuple[int, bytes]) -> list[Observation]:
    seen: list[Observation] = []
    for offset, data in parts:
        sample = replace_flags(segment(offset, data))
        seen += watched.add(sample)
    return seen


def replace_flags(sample: SegmentSample) -> SegmentSample:
    return replace(sample, start_seq=None, hello=5, hello_suppressed=True)


@pytest.mark.parametrize("size", [len(B), 100, 7, 1])
def test_other_bytes_at_its_place_are_named(size: int) -> None:
    seen = add(suppressed(), *((at, B[at : at + size]) for at in range(0, len(B), size)))
    assert hellos(seen) == []
    assert anomalies(seen) == [(Technique.OVERLAPPING_SEGMENTS, b"bbbb.example")]


def test_they_are_named_once() -> None:
    assert len(anomalies(add(suppressed(), (0, B), (0, B), (0, hello(b"cccc.example"))))) == 1


def test_the_same_bytes_in_pieces_are_a_retransmission() -> None:
    assert anomalies(add(suppressed(), (0, A[:100]), (100, A[100:]))) == []


def test_of_a_hello_that_was_evicted_nothing_is_known_to_differ() -> None:
    assert anomalies(add(suppressed(None), (0, B[:100]), (100, B[100:]))) == []


def test_bytes_after_it_are_the_clients_next() -> None:
    watched = suppressed()
    assert anomalies(add(watched, (len(A), b"\x14\x03\x03\x00\x01\x01"))) == []


def test_an_incomplete_copy_is_no_hello() -> None:
    watched = suppressed()
    assert anomalies(add(watched, (0, B[:40]))) == []
    assert watched.held > 0
    watched.finish()
    assert watched.held == 0
