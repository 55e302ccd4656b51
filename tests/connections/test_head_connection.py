"""The first bytes of a connection: which readers get them, and how many."""

from __future__ import annotations

from dataclasses import replace

from deckwire.abi.samples import SegmentSample
from deckwire.connections.head_connection import HeadConnection, HeadSeen
from deckwire.connections.http_connection import HttpSeen
from deckwire.connections.ssh_connection import SshSeen
from deckwire.limits import HEAD_BYTES
from deckwire.options import HEADS
from tests.support.http_wire import answer, request
from tests.support.ssh_wire import (
    CLIENT,
    CLIENT_BANNER,
    ECDH_INIT,
    SERVER,
    SERVER_BANNER,
    kexinit,
    packet,
)

KEY = bytes(36)
OPENER, OTHER = 0, 1
FIRST = 0xFFFF_FFF0
"""The numbers of each stream wrap soon."""


def segment(sender: int, offset: int, payload: bytes, time_ns: int = 7) -> SegmentSample:
    return SegmentSample(
        time_ns=time_ns,
        born_ns=1,
        key=KEY,
        sender=sender,
        client=OPENER,
        midstream=False,
        seq=(FIRST + offset) & 0xFFFF_FFFF,
        start_seq=FIRST,
        payload=payload,
        claimed=len(payload),
        head="http",
    )


def connection(*wanted: str) -> HeadConnection:
    return HeadConnection(KEY, 1, OPENER, wanted=wanted or HEADS)


def targets(seen: list[HeadSeen]) -> list[bytes]:
    return [one.request.line.target for one in seen if isinstance(one, HttpSeen)]


def banners(seen: list[HeadSeen]) -> list[bytes | None]:
    return [one.banner for one in seen if isinstance(one, SshSeen)]


def test_segments_out_of_order_make_a_request() -> None:
    watched, asked = connection(), request(b"/x")
    seen = [
        one
        for at in reversed(range(0, len(asked), 9))
        for one in watched.add(segment(OPENER, at, asked[at : at + 9]))
    ]
    assert targets(seen + watched.add(segment(OTHER, 0, answer()))) == [b"/x"]


def test_a_misspelled_banner_before_the_other_one_is_read() -> None:
    watched = connection()
    odd = b"-HSS2.0-libssh\r\n"
    watched.add(segment(OPENER, 0, odd))
    watched.add(segment(OTHER, 0, SERVER))
    seen = watched.add(segment(OPENER, len(odd), packet(kexinit()))) + watched.finish()
    assert b"-HSS2.0-libssh" in banners(seen)


def test_a_request_to_an_ssh_server_is_read_too() -> None:
    watched = connection()
    seen = watched.add(segment(OTHER, 0, SERVER_BANNER + b"\r\n"))
    seen += watched.add(segment(OPENER, 0, request())) + watched.finish()
    assert targets(seen) == [b"/"]
    assert banners(seen) == [SERVER_BANNER]


def test_only_wanted_protocols_are_read() -> None:
    for wanted in ("ssh", "http", "payload"):
        watched = connection(wanted)
        seen = watched.add(segment(OTHER, 0, SERVER_BANNER + b"\r\n"))
        seen += watched.add(segment(OPENER, 0, request())) + watched.finish()
        assert bool(banners(seen)) == (wanted == "ssh")
        assert bool(targets(seen)) == (wanted == "http")


def test_bytes_beyond_the_bound_are_not_read() -> None:
    watched = connection()
    asked = request(b"/1") + bytes(HEAD_BYTES) + request(b"/2")
    seen = []
    for at in range(0, len(asked), 1_000):
        seen += watched.add(segment(OPENER, at, asked[at : at + 1_000]))
        assert watched.held < 4 * HEAD_BYTES + 4_000
    assert targets(seen + watched.finish()) == [b"/1"]


def of_ssh(offset: int, payload: bytes, *, hello: int = 0, before: int = 0) -> SegmentSample:
    return replace(segment(OPENER, offset, payload), head="ssh", hello=hello, before=before)


LINE, OFFER = CLIENT_BANNER + b"\r\n", packet(kexinit())
INIT = packet(bytes([ECDH_INIT]) + bytes(36))


def test_the_signatures_of_an_end_are_kept_with_their_bytes() -> None:
    watched = connection()
    watched.add(of_ssh(0, LINE, hello=1))
    watched.add(of_ssh(len(LINE), OFFER, hello=2))
    watched.add(of_ssh(len(LINE + OFFER), INIT, hello=2))
    assert watched.links(OPENER) == [(1, LINE), (2, LINE + OFFER)]


def test_what_was_suppressed_before_the_first_sample_is_recalled() -> None:
    watched = HeadConnection(KEY, 1, OPENER, wanted=HEADS, recall={1: LINE}.get)
    seen = watched.add(of_ssh(len(LINE), OFFER, hello=2, before=1))
    seen += watched.add(of_ssh(len(LINE + OFFER), INIT, hello=2))
    assert banners(seen) == [CLIENT_BANNER]
    assert watched.links(OPENER) == [(1, LINE), (2, LINE + OFFER)]


def test_what_was_evicted_is_not_reported() -> None:
    watched = connection()
    watched.add(of_ssh(len(LINE), OFFER, hello=2, before=1))
    assert watched.finish() == []
    assert watched.links(OPENER) == []


def test_an_end_of_which_all_was_suppressed_is_recalled() -> None:
    watched = HeadConnection(KEY, 1, OPENER, wanted=HEADS, recall={1: CLIENT}.get)
    seen = watched.recall(OPENER, 1, 9)
    assert banners(seen + watched.finish()) == [CLIENT_BANNER]
    assert watched.recall(OPENER, 1, 9) == []
