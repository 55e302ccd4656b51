"""connections.Heads: the same facts in any order of the segments; all of them are in the bytes."""

from __future__ import annotations

from deckwire.abi.samples import SegmentSample
from deckwire.connections.head_connection import HeadSeen
from deckwire.connections.heads import Heads
from deckwire.connections.http_connection import HttpSeen
from deckwire.connections.payload import PayloadSeen
from deckwire.connections.ssh_connection import SshSeen
from deckwire.limits import HEAD_BYTES, PAYLOAD_BYTES
from deckwire.options import HEADS
from tests.fuzz.feed import Feed
from tests.fuzz.material import KEY
from tests.support import payload_wire
from tests.support.http_wire import answer, request
from tests.support.ssh_wire import CLIENT, SERVER

_BORN_NS = 1
_ISS = (0xFFFF_FF00, 5_000)
"""Sequence number of the first byte of each end; that of the first one wraps around."""
_SERVER, _LATE, _AGAIN = 1, 2, 4
"""What a segment is: of which end, sent after all others, sent with bytes before it."""
_OPENER, _UNSEEN, _NO_SSH, _NO_HTTP, _NO_PAYLOAD, _TLS = 1, 2, 4, 8, 16, 32
_BACK = 24
_SEGMENTS = 24
"""So many may wait without reaching a bound of the stream."""

Streams = tuple[bytes, bytes]
"""What each end sends."""
Place = tuple[int, int]
"""An end, and a number of bytes that it has sent."""


def seeds() -> list[bytes]:
    talks = [
        (CLIENT, SERVER),
        (SERVER, CLIENT),
        (b"-HSS2.0-odd\r\n" + CLIENT.partition(b"\n")[2], SERVER),
        (b"SSH-1.5-x\n", b"SSH-1.99-y\n"),
        (request(b"/a") + request(b"/b", body=b"x" * 600), answer() + answer(b"404 No")),
        (request(b"a:1", method=b"CONNECT") + b"\x16\3\1", answer(b"200 OK", body=b"")),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"),
        (payload_wire.TELNET_CLIENT, payload_wire.TELNET_SERVER),
        (b"x" * 600, b"y" * 600),
        (b"", b"220 x\r\n"),
    ]
    # Whole ends; both in turn; the beginning last; with repeated bytes.
    orders = [
        b"\0\xff\1\xff" * 8,
        b"\0\x10\1\x10" * 20,
        b"\2\x10\3\x08" + b"\0\x20\1\x20" * 10,
        b"\5\x30\4\x20" * 10,
    ]
    return [
        b"".join(
            [
                *(bytes([flags, len(order) // 2]), order),
                bytes([1, 0, 12]) if flags & _TLS else b"",
                *(len(streams[0]).to_bytes(2), streams[0], streams[1]),
            ]
        )
        for flags in (0, _OPENER, _UNSEEN | _NO_HTTP, _TLS)
        for order in orders
        for streams in talks
    ]


def check(data: bytes) -> None:
    feed = Feed(data)
    flags = feed.number(1)
    order = [(feed.number(1), feed.number(1) + 1) for _ in range(feed.number(1) % _SEGMENTS)]
    tls = (feed.number(1) & _SERVER, feed.number(2)) if flags & _TLS else None
    streams = feed.counted(2)[:HEAD_BYTES], feed.rest()[:HEAD_BYTES]
    wanted = [
        name
        for name, left_out in zip(HEADS, (_NO_SSH, _NO_HTTP, _NO_PAYLOAD), strict=True)
        if not flags & left_out
    ]
    pieces = _seen(_samples(flags, streams, order), wanted, tls)
    _check_seen(pieces, streams, flags & _OPENER, wanted, tls)
    whole = _seen(_samples(flags, streams, []), wanted, tls)
    assert _facts(pieces) == _facts(whole)


def _samples(flags: int, streams: Streams, order: list[tuple[int, int]]) -> list[SegmentSample]:
    """The segments of both ends in this order, then what is left of each."""
    at = [0, 0]
    now: list[SegmentSample] = []
    late: list[SegmentSample] = []

    def send(how: int, size: int) -> None:
        side = how & _SERVER
        start = max(0, at[side] - _BACK) if how & _AGAIN else at[side]
        payload = streams[side][start : at[side] + size]
        at[side] = start + len(payload)
        if not payload:
            return
        (late if how & _LATE else now).append(
            SegmentSample(
                time_ns=len(now) + len(late),
                born_ns=_BORN_NS,
                key=KEY,
                sender=side,
                client=flags & _OPENER,
                midstream=bool(flags & _UNSEEN),
                seq=(_ISS[side] + start) & 0xFFFF_FFFF,
                start_seq=_ISS[side],
                payload=payload,
                claimed=len(payload),
                head=HEADS[0],
            )
        )

    for how, size in order:
        send(how, size)
    for side in (0, _SERVER):
        send(side, len(streams[side]))
    return now + late


def _seen(samples: list[SegmentSample], wanted: list[str], tls: Place | None) -> list[HeadSeen]:
    """What the segments show, and then the end of the connection, or TLS that begins there."""
    heads = Heads()
    heads.wanted = wanted
    seen: list[HeadSeen] = []
    for sample in samples:
        found = heads.add(sample)
        if found is None:
            # It was reported in full.
            assert heads.held == 0
            continue
        connection, more = found
        seen += more
        assert len(heads) == (not connection.done)
    if tls is None:
        ended = heads.end(KEY, _BORN_NS)
    else:
        end, place = tls
        ended = heads.tls_begins(KEY, _BORN_NS, end, (_ISS[end] + place) & 0xFFFF_FFFF)
        assert not samples or heads.add(samples[0]) is None
    if ended is not None:
        seen += ended[1]
    assert heads.end_any() is None
    # It is added up from differences, so any mistake on the way shows here.
    assert heads.held == 0
    return seen


def _check_seen(
    seen: list[HeadSeen], streams: Streams, opener: int, wanted: list[str], tls: Place | None
) -> None:
    kinds = {type(one) for one in seen}
    assert "ssh" in wanted or SshSeen not in kinds
    assert "http" in wanted or HttpSeen not in kinds
    assert "payload" in wanted or PayloadSeen not in kinds
    assert PayloadSeen not in kinds or len(seen) == 1
    if not seen:
        # Something is reported of whatever was sent.
        assert "payload" not in wanted or not any(streams) or _is_ssh(streams) or tls is not None
    for end in (0, 1):
        assert sum(isinstance(one, SshSeen) and one.sender == end for one in seen) <= 1
        numbers = [one.number for one in seen if isinstance(one, HttpSeen) and one.sender == end]
        assert numbers == list(range(len(numbers)))
    for one in seen:
        if isinstance(one, PayloadSeen):
            for sent, end in ((one.client, opener), (one.server, 1 - opener)):
                stream = streams[end]
                before_tls = stream[: tls[1]] if tls is not None and tls[0] == end else stream
                assert sent.data in (stream[:PAYLOAD_BYTES], before_tls[:PAYLOAD_BYTES])
                assert not sent.is_cut or len(stream) > PAYLOAD_BYTES
        elif isinstance(one, SshSeen):
            assert one.banner in streams[one.sender]
            assert one.reversed == (one.is_client != (one.sender == opener))
        else:
            assert one.request.line.target in _blanked(streams[one.sender])
            assert one.reversed == (one.sender != opener)


def _is_ssh(streams: Streams) -> bool:
    return any(stream.startswith(b"SSH-") for stream in streams)


def _blanked(stream: bytes) -> bytes:
    """With tabs as blanks, as a request line is read."""
    return stream.replace(b"\t", b" ")


def _facts(seen: list[HeadSeen]) -> list[str]:
    """What was seen, as far as it does not depend on the order in which the two ends spoke.

    That order decides which answer is for which request, which of two ends that both claim to be
    the client of SSH is believed, and when it is known whether a payload was cut.
    """
    return sorted(_fact(one) for one in seen)


def _fact(one: HeadSeen) -> str:
    if isinstance(one, PayloadSeen):
        return repr((one.client.data, one.server.data))
    if isinstance(one, SshSeen):
        return repr((one.sender, one.banner, one.kexinit))
    request = one.request
    return repr((one.sender, one.number, request.line, request.headers.fields, request.body))
