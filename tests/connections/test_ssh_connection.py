"""An SSH connection from segments: who says what, when it is reported, and in which role."""

from __future__ import annotations

import pytest

from deckwire.abi.samples import SegmentSample
from deckwire.connections.head_connection import HeadConnection, HeadSeen
from deckwire.connections.ssh_connection import SshSeen
from tests.support.ssh_wire import (
    CLIENT,
    CLIENT_BANNER,
    SERVER,
    SERVER_BANNER,
    SERVER_LISTS,
    kexinit,
    packet,
)

KEY = bytes(36)
OPENER, OTHER = 0, 1
ISS = (0xFFFF_FF00, 5_000)


def segment(sender: int, offset: int, payload: bytes, time_ns: int = 7) -> SegmentSample:
    first = (ISS[sender] + 1) & 0xFFFF_FFFF
    return SegmentSample(
        time_ns=time_ns,
        born_ns=1,
        key=KEY,
        sender=sender,
        client=OPENER,
        midstream=False,
        seq=(first + offset) & 0xFFFF_FFFF,
        start_seq=first,
        payload=payload,
        claimed=len(payload),
        head="ssh",
    )


def connection() -> HeadConnection:
    return HeadConnection(KEY, 1, OPENER, wanted=("ssh",))


def said(seen: list[HeadSeen]) -> list[tuple[int, bool, bool, bytes | None, bool]]:
    return [
        (one.sender, one.is_client, one.reversed, one.banner, one.kexinit is not None)
        for one in seen
        if isinstance(one, SshSeen)
    ]


def test_each_end_is_reported_once_as_soon_as_its_role_is_known() -> None:
    watched = connection()
    size = len(SERVER_BANNER) + 2 + len(packet(kexinit(SERVER_LISTS)))
    assert watched.add(segment(OTHER, 0, SERVER[:size], 5)) == []
    seen = watched.add(segment(OPENER, 0, CLIENT, 9))
    assert said(seen) == [
        (OTHER, False, False, SERVER_BANNER, True),
        (OPENER, True, False, CLIENT_BANNER, True),
    ]
    assert [one.time_ns for one in seen] == [5, 9]
    assert watched.done
    assert watched.add(segment(OTHER, size, SERVER[size:])) == []
    assert watched.finish() == []


def test_segments_out_of_order_are_put_in_order() -> None:
    watched = connection()
    pieces = [(at, CLIENT[at : at + 100]) for at in range(0, len(CLIENT), 100)]
    seen = [
        one for at, piece in reversed(pieces) for one in watched.add(segment(OPENER, at, piece))
    ]
    assert said(seen) == [(OPENER, True, False, CLIENT_BANNER, True)]


def test_who_opened_the_connection_may_be_the_server() -> None:
    watched = connection()
    watched = connection()
    seen = watched.add(segment(OTHER, 0, CLIENT)) + watched.add(segment(OPENER, 0, SERVER))
    assert said(seen) == [
        (OTHER, True, True, CLIENT_BANNER, True),
        (OPENER, False, True, SERVER_BANNER, True),
    ]


def test_without_a_role_the_opener_is_the_client_at_the_end() -> None:
    watched = connection()
    assert watched.add(segment(OPENER, 0, CLIENT_BANNER + b"\r\n" + packet(kexinit()))) == []
    assert watched.add(segment(OTHER, 0, b"SSH-2.0-no line")) == []
    assert said(watched.finish()) == [
        (OPENER, True, False, CLIENT_BANNER, True),
        (OTHER, False, False, b"SSH-2.0-no line", False),
    ]
    assert watched.done


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\r\n"])
def test_an_end_that_speaks_no_ssh_is_not_reported(first: bytes) -> None:
    watched = connection()
    watched.add(segment(OPENER, 0, first))
    watched.add(segment(OTHER, 0, SERVER_BANNER + b"\r\n"))
    assert said(watched.finish()) == [(OTHER, False, False, SERVER_BANNER, False)]


def test_bytes_behind_a_hole_are_not_guessed() -> None:
    watched = connection()
    assert watched.add(segment(OPENER, 10, CLIENT[10:])) == []
    assert watched.finish() == []
