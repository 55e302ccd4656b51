"""connections.Connection: at most one hello and one session, for any segments."""

from __future__ import annotations

from deckwire.abi import structs as abi
from deckwire.abi.samples import SegmentSample
from deckwire.connections.connection import Connection
from deckwire.connections.observations import (
    CertificatesSeen,
    HelloSeen,
    Observation,
    SessionSeen,
)
from deckwire.limits import CERTIFICATES
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.out_of_order import PIECE_BYTES
from deckwire.tls.hello_cache import HelloCache
from tests.fuzz.feed import Feed
from tests.fuzz.material import KEY, flights

_QUALITIES = {"complete", "reassembled", "overlap", "contested", "truncated", "gap"}
_FLIGHTS = flights()
_ISS = (0xFFFF_FF00, 5_000)
"""Sequence number of the first byte of each side; that of the client wraps around."""
_SERVER, _STARTS, _OWN, _CUT, _SWAPPED = 1, 2, 4, 8, 16


def seeds() -> list[bytes]:
    found = []
    for flight in range(len(_FLIGHTS)):
        for size in (200, 700, 4_000):
            ops = b"".join(
                bytes([side | (_STARTS if at == 0 else 0)])
                + at.to_bytes(2, "big")
                + size.to_bytes(2, "big")
                for side in (0, 1)
                for at in range(0, len(_FLIGHTS[flight][side]), size)
            )
            found.append(bytes([flight, 0]) + ops)
            found.append(bytes([flight, 2]) + ops[5:] + ops[:5])
    return found


def check(data: bytes) -> None:
    feed = Feed(data)
    flight = _FLIGHTS[feed.number(1) % len(_FLIGHTS)]
    client = feed.number(1) % 3
    connection = Connection(KEY, 1, client, Handshake(), HelloCache())
    seen: list[Observation] = []
    fed = 0
    for now in range(64):
        if not feed:
            break
        how, at, size = feed.number(1), feed.number(2), feed.number(2)
        side = how & _SERVER
        source = flight[1 - side if how & _SWAPPED else side]
        payload = feed.take(size & 0xFF) if how & _OWN else source[at : at + size]
        # Both copies of a stream may hold a byte, and so may the reader of each, and the hello of
        # the copy that is not believed. In each copy, a segment may become a piece.
        fed += 5 * len(payload) + 2 * PIECE_BYTES
        seen += connection.add(
            SegmentSample(
                time_ns=now,
                born_ns=1,
                key=KEY,
                sender=side,
                client=client,
                midstream=client == abi.CLIENT_UNKNOWN,
                seq=(_ISS[side] + at) & 0xFFFF_FFFF,
                start_seq=_ISS[side] if how & _STARTS else None,
                payload=payload,
                claimed=len(payload) + (100 if how & _CUT else 0),
            )
        )
        _check_held(connection, seen, fed)
    seen += connection.finish()
    assert connection.done
    assert connection.held == 0
    assert connection.finish() == []
    _check_seen(seen)


def _check_held(connection: Connection, seen: list[Observation], fed: int) -> None:
    """Check the memory that a connection counts: its payload, and each hello that it has parsed."""
    if connection.done:
        assert connection.held == 0
        return
    payload = sum(side.held for side in connection.sides)
    assert 0 <= payload <= fed
    hellos = sum(each.hello.memory for each in seen if isinstance(each, HelloSeen | SessionSeen))
    again = [each.after_retry for each in seen if isinstance(each, SessionSeen)]
    hellos += sum(hello.memory for hello in again if hello is not None)
    parsed = connection.held - payload
    # A ClientHello that waits for an answer, and a session that waits for its ClientHello, are not
    # among the observations yet.
    assert parsed == hellos or (parsed > hellos and not _has_session(seen))


def _has_session(seen: list[Observation]) -> bool:
    return any(isinstance(each, SessionSeen) for each in seen)


def _check_seen(seen: list[Observation]) -> None:
    hellos = [each for each in seen if isinstance(each, HelloSeen)]
    sessions = [each for each in seen if isinstance(each, SessionSeen)]
    assert len(hellos) <= 1
    assert len(sessions) <= 1
    for hello in hellos:
        assert hello.quality in _QUALITIES
        assert hello.hello.cut == (hello.quality in ("truncated", "gap"))
    for session in sessions:
        # The session has the hello that was emitted.
        assert session.client is None or [session.client] == [each.hello for each in hellos]
    for each in seen:
        if isinstance(each, CertificatesSeen):
            assert each.quality in _QUALITIES
            assert 1 <= len(each.chain) <= CERTIFICATES
            assert each.chain_length is None or each.chain_length >= len(each.chain)
