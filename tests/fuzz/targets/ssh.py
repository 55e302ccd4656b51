"""ssh.reader and fingerprints.hassh: the same facts however the bytes are cut; bounds hold."""

from __future__ import annotations

import re
from hashlib import md5

from deckwire.fingerprints.hassh import algorithms, hassh
from deckwire.limits import SSH_BANNER_BYTES, SSH_HEAD_BYTES
from deckwire.ssh.reader import Outcome, Reader
from tests.fuzz.feed import Feed
from tests.support.ssh_wire import CLIENT, SERVER, SERVER_LISTS, kexinit, packet

_PIECES = 16
"""Smaller pieces of a long stream show no more, and take long."""
_MD5 = re.compile("[0-9a-f]{32}")
_NOTHING = md5(b"", usedforsecurity=False).hexdigest()


def seeds() -> list[bytes]:
    banners = [b"SSH-2.0-x\n", b"SSH-1.5-y\r\n", b"hello\nSSH-1.99-z\r\n", b"-HSS2.0-odd\n"]
    streams = [
        CLIENT,
        SERVER,
        *banners,
        *(banner + packet(kexinit(SERVER_LISTS)) for banner in banners),
        b"SSH-2.0-a\n" + packet(bytes([2]) + bytes(20)) + packet(kexinit([b""] * 10)),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\n" * 20,
    ]
    return [bytes([size]) + stream for size in (0, 20, 255) for stream in streams]


def check(data: bytes) -> None:
    feed = Feed(data)
    size = feed.number(1) + 1
    stream = feed.rest()
    size = max(size, len(stream) // _PIECES)
    whole = _read([stream])
    pieces = _read([stream[at : at + size] for at in range(0, len(stream), size)])
    assert _facts(whole) == _facts(pieces)
    assert whole.held == 0
    assert (whole.outcome is Outcome.DONE) == (whole.banner is not None)
    if whole.banner is not None:
        assert whole.banner in stream
        assert len(whole.banner) <= SSH_BANNER_BYTES
        assert b"\n" not in whole.banner
    if whole.is_client is not None:
        assert whole.kexinit is not None
    if whole.kexinit is None:
        return
    assert whole.banner is not None
    for names in whole.kexinit:
        assert names in stream
    for of_client in (False, True):
        digest = hassh(algorithms(whole.kexinit, of_client=of_client))
        assert _MD5.fullmatch(digest)
        assert digest != _NOTHING


def _read(pieces: list[bytes]) -> Reader:
    reader = Reader()
    for piece in pieces:
        before = reader.outcome
        after = reader.feed(piece)
        # What was decided stays decided.
        assert before is Outcome.NEED_MORE or after is before
        assert reader.held <= SSH_HEAD_BYTES
    reader.finish()
    return reader


def _facts(reader: Reader) -> tuple[object, ...]:
    return (
        *(reader.outcome, reader.banner, reader.kexinit),
        reader.is_client,
    )
