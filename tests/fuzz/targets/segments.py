"""captures.ethernet and split_segments: nothing too long comes out, and nothing is made up."""

from __future__ import annotations

from deckwire.captures import Frame, ethernet, split_segments
from deckwire.limits import SUPER_PACKET_BYTES
from fuzz.feed import Feed
from fuzz.material import tcp_frame

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
    link, max_len = _LINKS[feed.number(1) % len(_LINKS)], 256 + 4 * feed.number(1)
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
    header = _header_len(frame, pieces)
    # The first piece is as long as can be, so this many pieces claim at most what the packet did.
    assert (len(pieces) - 1) * (max_len - header) <= SUPER_PACKET_BYTES
    assert frame.endswith(b"".join(piece[header:] for piece in pieces)) or len(frame) > header
    assert len({piece[:14] for piece in pieces}) == 1


def _header_len(frame: bytes, pieces: list[bytes]) -> int:
    """Bytes of headers, from the two last pieces: all that came before are full."""
    total = sum(map(len, pieces))
    for header in range(54, 257):
        carried = total - header * len(pieces)
        if b"".join(piece[header:] for piece in pieces) and carried >= 0:
            joined = b"".join(piece[header:] for piece in pieces)
            if joined in frame:
                return header
    return min(map(len, pieces))
