"""captures.ethernet and split_segments: no piece is too long, and no byte is invented."""

from __future__ import annotations

from itertools import accumulate

from deckwire.captures import Frame, ethernet, split_segments
from deckwire.limits import SUPER_PACKET_BYTES, SUPER_PACKET_HEADER_BYTES
from tests.fuzz.feed import Feed
from tests.fuzz.material import tcp_frame

_HEADERS = SUPER_PACKET_HEADER_BYTES
_LINKS = (1, 101, 228, 229, 0, 108, 113, 276, 12, 147)


def seeds() -> list[bytes]:
    frames = [
        tcp_frame(b"x" * 700),
        tcp_frame(bytes(range(256)) * 4, ip_version=6),
        tcp_frame(b"y" * 500, tags=2, flags=0xC3),
        tcp_frame(),
    ]
    links = [(0, b""), (1, b""), (4, b"\2\0\0\0"), (6, bytes(14) + b"\x08\0")]
    raw = [bytes([link, 0]) + head + frame[14:] for link, head in links[1:] for frame in frames[:2]]
    jumbo = frames[1][:18] + b"\0\0\0" + frames[1][21:54] + b"\6\0\xc2\4\0\0\4\x1c" + frames[1][54:]
    return [*[b"\0\0" + frame for frame in frames], *raw, b"\0\0" + jumbo, b"\0\xff" + frames[0]]


def check(data: bytes) -> None:
    feed = Feed(data)
    link, max_len = _LINKS[feed.number(1) % len(_LINKS)], _HEADERS + 4 * (1 + feed.number(1))
    body = feed.rest()
    frame = ethernet(Frame(0, link, body, len(body)))
    if frame is None:
        return
    assert len(frame) <= len(body) + 14
    pieces = split_segments(frame, max_len)
    if len(frame) <= max_len:
        assert pieces == [frame]
        return
    assert pieces
    assert all(len(piece) <= max_len for piece in pieces)
    if len(pieces) == 1:
        assert len(pieces[0]) <= max_len
        return
    # All pieces except the last have the largest length, so their sum bounds their number.
    assert (len(pieces) - 1) * (max_len - _HEADERS) <= SUPER_PACKET_BYTES
    assert len({piece[:14] for piece in pieces}) == 1
    if frame[12:14] == b"\x08\0":
        _check_payload(frame, pieces)


def _check_payload(frame: bytes, pieces: list[bytes]) -> None:
    """Assert that the pieces of an untagged IPv4 packet carry its payload in order."""
    tcp = 14 + (frame[14] & 0xF) * 4
    payload = tcp + (frame[tcp + 12] >> 4) * 4
    carried = b"".join(piece[payload:] for piece in pieces)
    assert carried == frame[payload : payload + len(carried)]
    claimed = [int.from_bytes(piece[16:18], "big") - (payload - 14) for piece in pieces]
    assert all(size >= 0 for size in claimed)
    total = int.from_bytes(frame[16:18], "big")
    assert sum(claimed) == (14 + total if total else len(frame)) - payload
    first = int.from_bytes(frame[tcp + 4 : tcp + 8], "big")
    syn = bool(frame[tcp + 13] & 2)
    for piece, before in zip(pieces, accumulate(claimed, initial=0), strict=False):
        seq = int.from_bytes(piece[tcp + 4 : tcp + 8], "big")
        assert (seq - first) & 0xFFFF_FFFF == before + (syn and before > 0)
