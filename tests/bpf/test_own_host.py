"""Connections that the host itself opens to deckies: ignored by address and MAC address."""

from __future__ import annotations

import pytest

from deckwire.deckies import Decky, parse_address
from deckwire.tables.own_host import OwnHostTables
from tests.support.bpf_frames import DECKY, DECKY6, Talk
from tests.support.bpf_harness import Kernel

pytestmark = pytest.mark.root

HOST, HOST6 = "198.51.100.1", "2001:db8:2::1"
OURS, THEIRS, FORGED = (bytes.fromhex(f"0200000000{n}") for n in ("aa", "bb", "cc"))
FROM_HOST = pytest.mark.parametrize(
    "talk", [Talk(HOST, DECKY), Talk(HOST6, DECKY6)], ids=["IPv4", "IPv6"]
)


def between(frame: bytes, source: bytes, destination: bytes) -> bytes:
    """The frame with these MAC addresses."""
    return destination + source + frame[12:]


def packed(address: str) -> bytes:
    return Decky("host", parse_address(address)).packed


@pytest.fixture
def ignoring(kernel: Kernel) -> Kernel:
    """The programs, which ignore what the host opens."""
    tables = OwnHostTables(kernel.loaded.maps)
    assert tables.replace([packed(HOST), packed(HOST6)], [OURS]) == 0
    return kernel


def whole(talk: Talk, client: bytes, server: bytes = THEIRS) -> list[bytes]:
    """A connection with data of both ends, from MAC address `client`."""
    c = [talk.c("S"), talk.c("A", 1, 1), talk.c("PA", 1, 1, b"GET")]
    s = [talk.s("SA", 0, 1), talk.s("PA", 1, 4, b"200")]
    frames = [c[0], s[0], c[1], c[2], s[1], *talk.closed(4, 4)]
    to_server = {*c, *(talk.closed(4, 4)[at] for at in (0, 2))}
    return [
        between(frame, client, server) if frame in to_server else between(frame, server, client)
        for frame in frames
    ]


@FROM_HOST
def test_connections_of_the_host_are_ignored_and_counted(ignoring: Kernel, talk: Talk) -> None:
    frames = whole(talk, OURS)
    ignoring.feed(*frames)
    assert ignoring.samples() == []
    assert ignoring.raised() == {"ignored_own_host": len(frames)}
    assert ignoring.sizes() == (0, 0, 0)


@FROM_HOST
def test_an_address_alone_can_be_forged(ignoring: Kernel, talk: Talk) -> None:
    ignoring.feed(*whole(talk, FORGED))
    assert ignoring.submitted() == "syn handshake end:fin"
    assert "ignored_own_host" not in ignoring.raised()


def test_the_replies_to_a_forged_address_go_to_the_host_and_complete_nothing(
    ignoring: Kernel,
) -> None:
    talk = Talk(HOST, DECKY)
    ignoring.feed(between(talk.c("S"), FORGED, THEIRS), between(talk.s("SA", 0, 1), THEIRS, OURS))
    assert ignoring.submitted() == "syn"
    assert ignoring.raised()["ignored_own_host"] == 1


def test_a_mac_address_alone_is_not_enough(ignoring: Kernel) -> None:
    ignoring.feed(*whole(Talk(), OURS))
    assert ignoring.submitted() == "syn handshake end:fin"


@pytest.mark.parametrize("host", [HOST, HOST6])
def test_a_decky_that_connects_to_the_host_is_reported(ignoring: Kernel, host: str) -> None:
    talk = Talk(DECKY6 if ":" in host else DECKY, host)
    ignoring.feed(*whole(talk, THEIRS, OURS))
    assert ignoring.submitted() == "syn handshake end:fin"
    assert "ignored_own_host" not in ignoring.raised()


@pytest.mark.parametrize("from_server", [False, True])
def test_a_connection_of_the_host_met_midstream_is_ignored(
    ignoring: Kernel, from_server: bool
) -> None:
    talk = Talk(HOST, DECKY)
    frame = (
        between(talk.s("PA", 9, 9, b"x"), THEIRS, OURS)
        if from_server
        else between(talk.c("PA", 9, 9, b"x"), OURS, THEIRS)
    )
    ignoring.feed(frame)
    assert ignoring.raised() == {"ignored_own_host": 1}
    assert ignoring.sizes() == (0, 0, 0)


def test_nothing_is_ignored_unless_it_is_wanted(kernel: Kernel) -> None:
    tables = OwnHostTables(kernel.loaded.maps)
    tables.replace([packed(HOST)], [OURS])
    tables.replace([], [])
    kernel.feed(*whole(Talk(HOST, DECKY), OURS))
    assert kernel.submitted() == "syn handshake end:fin"


def test_addresses_without_room_are_counted(kernel: Kernel) -> None:
    tables = OwnHostTables(kernel.loaded.maps)
    macs = [n.to_bytes(6, "big") for n in range(70)]
    assert tables.replace([packed(HOST)], macs) == 6
    assert len(list(kernel.loaded.maps["own_macs"].items())) == 64
    assert tables.replace([packed(HOST6)], [OURS]) == 0
    assert list(kernel.loaded.maps["own_macs"].items()) == [(OURS + bytes(2), b"\1")]
    assert list(kernel.loaded.maps["own_addresses"].items()) == [(packed(HOST6), b"\1")]
