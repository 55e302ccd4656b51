"""Many connections: bounds, eviction, tombstones and exact byte accounting."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deckwire.abi.samples import SegmentSample
from deckwire.connections import open_connections as module
from deckwire.connections.connection import Connection
from deckwire.connections.observations import HelloSeen, Observation, SessionSeen
from deckwire.connections.open_connections import Connections
from deckwire.tcp.handshake import Handshake
from tests.support.fingerprint_frames import syn
from tests.support.flights import handshake

FLIGHT = handshake(ssl.TLSVersion.TLSv1_2)
SHORT = handshake(ssl.TLSVersion.TLSv1_3)
CLIENT, SERVER = 0, 1
SYN_PACKET = Handshake(syn(seq=99))


def key(number: int) -> bytes:
    return number.to_bytes(36, "big")


def segment(
    number: int,
    data: bytes,
    *,
    sender: int = CLIENT,
    seq: int = 100,
    start: bool = True,
    born_ns: int = 1,
    midstream: bool = False,
) -> SegmentSample:
    return SegmentSample(
        time_ns=5,
        born_ns=born_ns,
        key=key(number),
        sender=sender,
        client=CLIENT,
        midstream=midstream,
        seq=seq,
        start_seq=seq if start else None,
        payload=data,
        claimed=len(data),
    )


@pytest.fixture
def asked() -> list[tuple[bytes, int, bool]]:
    return []


Find = Callable[[bytes, int, bool], Handshake | None]


def finder(asked: list[tuple[bytes, int, bool]]) -> Find:
    """A kernel's table with the handshake SYN_PACKET of connections of even numbers."""

    def find(key: bytes, born_ns: int, midstream: bool) -> Handshake | None:
        asked.append((key, born_ns, midstream))
        return None if key[-1] % 2 else SYN_PACKET

    return find


def alone() -> Connections:
    """Connections without a kernel's table."""
    return Connections(lambda key, born_ns, midstream: None, lambda connection, signature: None)


@pytest.fixture
def connections(asked: list[tuple[bytes, int, bool]]) -> Connections:
    return Connections(finder(asked), lambda connection, signature: None)


def test_a_connection_is_its_key_and_its_birth(connections: Connections) -> None:
    first = connections.add(segment(1, FLIGHT.client))
    again = connections.add(segment(1, FLIGHT.client, born_ns=2))
    assert first is not None
    assert again is not None
    assert first[0] is not again[0]
    assert len(connections) == connections.counters.opened == 2


def test_when_all_is_reported_a_tombstone_is_left(connections: Connections) -> None:
    connections.add(segment(1, SHORT.client))
    found = connections.add(segment(1, SHORT.server, sender=SERVER))
    assert found is not None
    assert isinstance(found[1][1], SessionSeen)
    assert (len(connections), connections.held) == (0, 0)
    assert connections.add(segment(1, SHORT.client)) is None
    assert connections.counters.after_done == 1
    assert connections.end(key(1), 1) is None
    # The kernel gives a new connection another birth; the old one's tombstone went with its end.
    assert connections.add(segment(1, SHORT.client)) is not None


def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 3)
    connections = alone()
    for number in range(5):
        connections.add(segment(number, SHORT.client))
        connections.add(segment(number, SHORT.server, sender=SERVER))
    assert [connections.add(segment(n, SHORT.client)) is None for n in range(5)] == [
        *(False, False, True, True, True)
    ]


@pytest.mark.interpreted
def test_a_mistake_leaves_the_sum_of_bytes_right(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else CONNECTIONS_BYTES would bound less with each of them."""
    half = FLIGHT.client[:100]
    add = Connection.add

    def fails_behind(connection: Connection, sample: SegmentSample) -> list[Observation]:
        add(connection, sample)
        raise IndexError

    connections.add(segment(1, half))
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "add", fails_behind)
        for number in (1, 2):
            with pytest.raises(IndexError):
                connections.add(segment(number, FLIGHT.client[100:150], seq=200, start=False))
    assert len(connections) == 1
    assert connections.held == 295
    connections.end(key(1), 1)
    assert (len(connections), connections.held) == (0, 0)


@pytest.mark.interpreted
def test_one_that_cannot_be_finished_is_not_met_again(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Connection) -> list[Observation]:
        raise IndexError

    monkeypatch.setattr(module, "CONNECTIONS", 1)
    monkeypatch.setattr(Connection, "finish", fails)
    for number in (1, 2):
        connections.add(segment(number, FLIGHT.client[:100]))
    with pytest.raises(IndexError):
        connections.over_bounds()
    assert (len(connections), connections.held) == (1, 195)
    assert connections.over_bounds() is None
    with pytest.raises(IndexError):
        connections.end_any()
    assert (len(connections), connections.held) == (0, 0)


def test_the_one_silent_for_longest_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    connections = alone()
    half = FLIGHT.client[:100]
    for number in (1, 2):
        connections.add(segment(number, half))
        assert connections.over_bounds() is None
    connections.add(segment(1, FLIGHT.client[100:120], seq=200, start=False))
    connections.add(segment(3, half))
    evicted = connections.over_bounds()
    assert evicted is not None
    assert evicted[0].key == key(2)
    (seen,) = evicted[1]
    assert isinstance(seen, HelloSeen)
    assert seen.quality == "truncated"
    assert connections.over_bounds() is None
    assert connections.counters.evicted == 1
    assert connections.held == 2 * (120 + 95)  # in the stream and in the reader


def test_bytes_are_bounded_too(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_BYTES", 500)
    for number in range(3):
        connections.add(segment(number, FLIGHT.client[:100]))
    assert connections.held == 585
    assert connections.over_bounds() is not None
    assert connections.over_bounds() is None
    assert connections.held == 390


def test_those_met_in_the_middle_make_room_for_each_other(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIDSTREAM_CONNECTIONS", 2)
    half = FLIGHT.client[:100]
    connections.add(segment(1, half))
    for number in (2, 3):
        connections.add(segment(number, half, midstream=True))
        assert connections.over_bounds() is None
    connections.add(segment(2, FLIGHT.client[100:120], seq=200, start=False, midstream=True))
    connections.add(segment(4, half, midstream=True))
    evicted = connections.over_bounds()
    assert evicted is not None
    assert evicted[0].key == key(3)
    assert connections.over_bounds() is None
    assert (len(connections), connections.counters.evicted) == (3, 1)
    assert connections.held == 625


def test_bytes_of_those_met_in_the_middle_are_bounded_apart(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIDSTREAM_CONNECTIONS_BYTES", 500)
    for number in range(6):
        connections.add(segment(number, FLIGHT.client[:100], midstream=bool(number % 2)))
    evicted = connections.over_bounds()
    assert evicted is not None
    assert evicted[0].key == key(1)
    assert connections.over_bounds() is None
    assert connections.end(key(3), 1) is not None
    connections.add(segment(7, FLIGHT.client[:100], midstream=True))
    assert connections.over_bounds() is None


def test_those_met_in_the_middle_make_room_for_all_others(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    half = FLIGHT.client[:100]
    for number, midstream in enumerate((False, True, False)):
        connections.add(segment(number, half, midstream=midstream))
    evicted = connections.over_bounds()
    assert evicted is not None
    assert evicted[0].key == key(1)
    connections.add(segment(3, half))
    evicted = connections.over_bounds()
    assert evicted is not None
    assert evicted[0].key == key(0)


def test_an_end_reports_what_was_cut(connections: Connections) -> None:
    connections.add(segment(1, FLIGHT.client[:150]))
    ended = connections.end(key(1), 1)
    assert ended is not None
    assert [type(one) for one in ended[1]] == [HelloSeen]
    assert connections.end(key(1), 1) is None
    assert connections.end(key(9), 1) is None
    assert (len(connections), connections.held) == (0, 0)


def test_end_any_ends_all(connections: Connections) -> None:
    for number in range(3):
        connections.add(segment(number, FLIGHT.client[:150]))
    ended = [connections.end_any() for _ in range(4)]
    assert [one is None for one in ended] == [False, False, False, True]
    assert connections.held == 0


def test_a_handshake_is_remembered_until_the_first_segment(
    connections: Connections, asked: list[tuple[bytes, int, bool]]
) -> None:
    connections.opened(key(1), 1, SYN_PACKET)
    found = connections.add(segment(1, FLIGHT.client))
    assert found is not None
    assert found[0].handshake is SYN_PACKET
    assert asked == []


def test_else_it_is_read_from_the_kernel(
    connections: Connections, asked: list[tuple[bytes, int, bool]]
) -> None:
    known = connections.add(segment(2, FLIGHT.client, midstream=True))
    unknown = connections.add(segment(3, FLIGHT.client, born_ns=7))
    assert known is not None
    assert unknown is not None
    assert known[0].handshake is SYN_PACKET
    assert unknown[0].handshake == Handshake()
    assert asked == [(key(2), 1, True), (key(3), 7, False)]


def test_handshakes_remembered_are_bounded(
    asked: list[tuple[bytes, int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENT_HANDSHAKES", 2)
    connections = Connections(finder(asked), lambda connection, signature: None)
    for number in (1, 2, 3):
        connections.opened(key(number), 1, SYN_PACKET)
    found = [connections.add(segment(number, FLIGHT.client)) for number in (1, 2, 3)]
    known = [one[0].handshake == SYN_PACKET for one in found if one is not None]
    assert known == [False, True, True]
    assert [one[0] for one in asked] == [key(1)]


def test_a_handshake_is_read_once_and_only_if_it_is_needed(
    connections: Connections, asked: list[tuple[bytes, int, bool]]
) -> None:
    found = connections.add(segment(1, FLIGHT.client))
    assert found is not None
    assert asked == []
    assert found[0].handshake is found[0].handshake
    assert asked == [(key(1), 1, False)]


def test_a_handshake_that_completes_after_the_first_data_is_taken(
    connections: Connections,
) -> None:
    found = connections.add(segment(1, FLIGHT.client))
    assert found is not None
    connections.opened(key(1), 1, SYN_PACKET)
    assert found[0].handshake is SYN_PACKET


def test_what_was_out_of_place_is_counted_when_the_connection_goes(
    connections: Connections,
) -> None:
    connections.add(segment(1, FLIGHT.server))
    connections.add(segment(2, b"\x16\x03\x01\x00\x01"))
    connections.add(segment(2, b"\x01GET / HTTP/1.1", seq=105, start=False))
    assert connections.counters.misplaced == 0
    for number in (1, 2):
        connections.end(key(number), 1)
    assert connections.counters.misplaced == 1
    assert connections.counters.malformed == 1


PIECES = [
    FLIGHT.client,
    FLIGHT.client[:90],
    FLIGHT.client[90:],
    FLIGHT.server,
    FLIGHT.server[:400],
    SHORT.server,
    SHORT.client,
    b"\x16\x03\x01\xff",
    bytes(500),
]


class Accounting(RuleBasedStateMachine):
    """Any samples, ends and evictions: bytes held are those of the connections that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = pytest.MonkeyPatch()
        self.limits.setattr(module, "CONNECTIONS", 3)
        self.limits.setattr(module, "CONNECTIONS_BYTES", 2_000)
        self.limits.setattr(module, "MIDSTREAM_CONNECTIONS", 2)
        self.limits.setattr(module, "MIDSTREAM_CONNECTIONS_BYTES", 700)
        self.connections = alone()

    def teardown(self) -> None:
        self.limits.undo()

    @rule(
        number=st.integers(0, 5),
        data=st.sampled_from(PIECES),
        sender=st.integers(0, 1),
        seq=st.sampled_from([100, 190, 500, 2**32 - 40]),
        start=st.booleans(),
    )
    def sample(self, number: int, data: bytes, sender: int, seq: int, start: bool) -> None:
        midstream = number > 3
        self.connections.add(
            segment(number, data, sender=sender, seq=seq, start=start, midstream=midstream)
        )
        while self.connections.over_bounds() is not None:
            pass

    @rule(number=st.integers(0, 5))
    def open(self, number: int) -> None:
        self.connections.opened(key(number), 1, SYN_PACKET)

    @rule(number=st.integers(0, 5))
    def end(self, number: int) -> None:
        self.connections.end(key(number), 1)

    @rule()
    def end_any(self) -> None:
        self.connections.end_any()

    @invariant()
    def held_is_the_sum(self) -> None:
        open_now = list(self.connections._open.values())
        assert self.connections.held == sum(one.held for one in open_now)
        assert len(self.connections) == len(open_now) <= 3
        assert self.connections.held <= 2_000
        assert not any(one.done for one in open_now)


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=60, stateful_step_count=40)
