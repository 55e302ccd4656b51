"""tls.records: the same messages however the bytes are cut, within all bounds."""

from __future__ import annotations

import ssl

from deckwire.limits import HANDSHAKE_BYTES, HANDSHAKE_MESSAGES
from deckwire.tls.records import (
    HELLO_PREFIX_BYTES,
    HandshakeMessage,
    RecordReader,
    State,
    looks_like_hello,
)
from tests.support.flights import client_hello, handshake, message, record

_PIECES = 8
"""Largest number of pieces that the bytes are cut into."""


def seeds() -> list[bytes]:
    flights = [
        handshake(ssl.TLSVersion.TLSv1_2),
        handshake(ssl.TLSVersion.TLSv1_2, mutual=True),
        handshake(ssl.TLSVersion.TLSv1_3),
        handshake(ssl.TLSVersion.TLSv1_3, retry=True),
    ]
    whole = [b"\x07" + side for flight in flights for side in flight]
    hello = message(1, client_hello((0, b"\0\0"), (43, b"\x02\x03\x04")))
    tiny = b"".join(record(hello[n : n + 1]) for n in range(len(hello)))
    alerts = record(b"\x01\x70", kind=21) + record(hello) + record(b"\x02\x28", kind=21)
    return [*whole, b"\x01" + tiny, b"\x03" + alerts, b"\x05" + record(b"\x0b\xff\xff\xff")]


def check(data: bytes) -> None:
    step, data = (data[0] if data else 0), data[1:]
    step = max(step, len(data) // _PIECES, 1)
    whole = RecordReader()
    messages = whole.feed(data)
    pieces = RecordReader()
    gathered: list[HandshakeMessage] = []
    for at in range(0, len(data), step):
        gathered += pieces.feed(data[at : at + step])
    assert gathered == messages
    for name in ("state", "reason", "pending"):
        assert getattr(pieces, name) == getattr(whole, name)
    assert pieces.unfinished() == whole.unfinished()

    assert bool(whole.reason) == (whole.state is State.MALFORMED)
    assert len(messages) <= HANDSHAKE_MESSAGES
    assert sum(len(each.body) + 4 for each in messages) <= len(data)
    assert all(each.records >= 1 and len(each.body) <= HANDSHAKE_BYTES for each in messages)
    unfinished = whole.unfinished()
    if unfinished is not None:
        assert whole.pending
        assert unfinished.records >= 1
        assert len(unfinished.body) < HANDSHAKE_BYTES
    if whole.state is not State.NEED_MORE:
        assert whole.feed(data) == []
    _check_looks(data)


def _check_looks(data: bytes) -> None:
    """Once looks_like_hello has decided, further bytes do not change the result."""
    verdicts = [looks_like_hello(data[:size]) for size in range(HELLO_PREFIX_BYTES + 2)]
    settled = [verdict for verdict in verdicts if verdict is not None]
    assert len(set(settled)) <= 1
    assert verdicts == [None] * (len(verdicts) - len(settled)) + settled
    if len(data) >= HELLO_PREFIX_BYTES:
        assert settled
