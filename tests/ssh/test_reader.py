"""One direction of SSH: banners of all kinds, packets, and what is none of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import SSH_BANNER_BYTES, SSH_HEAD_BYTES
from deckwire.ssh.messages import KexInit
from deckwire.ssh.reader import Outcome, Reader
from tests.support.ssh_wire import (
    CLIENT,
    CLIENT_BANNER,
    CLIENT_LISTS,
    IGNORE,
    NEWKEYS,
    SERVER,
    SERVER_BANNER,
    SERVER_LISTS,
    kexinit,
    packet,
)

CLIENT_KEXINIT = KexInit(*CLIENT_LISTS[:8])
LINE = CLIENT_BANNER + b"\r\n"


def read(*pieces: bytes) -> Reader:
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
    return reader


def facts(reader: Reader) -> tuple[object, ...]:
    return (
        *(reader.outcome, reader.banner, reader.kexinit),
        *(reader.is_client, reader.held),
    )


def test_both_directions_are_read_to_their_roles() -> None:
    client, server = read(CLIENT), read(SERVER)
    assert facts(client) == (Outcome.DONE, CLIENT_BANNER, CLIENT_KEXINIT, True, 0)
    kex = KexInit(*SERVER_LISTS[:8])
    assert facts(server) == (Outcome.DONE, SERVER_BANNER, kex, False, 0)


@given(st.sampled_from([CLIENT, SERVER]), st.lists(st.integers(1, 400)))
def test_any_pieces_give_the_same(stream: bytes, sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in [*sizes, len(stream)]:
        pieces.append(stream[at : at + size])
        at += size
    assert facts(read(*pieces)) == facts(read(stream))


@pytest.mark.parametrize("message", [30, 31, 32, 33, 34])
def test_the_message_after_kexinit_shows_the_role(message: int) -> None:
    reader = read(LINE + packet(kexinit()) + packet(bytes([message]))[:6])
    assert reader.is_client == (message % 2 == 0)
    assert reader.outcome is Outcome.DONE


def test_other_packets_may_come_between() -> None:
    ignore = packet(bytes([IGNORE]) + bytes(40))
    assert read(LINE, ignore, packet(kexinit()), ignore, CLIENT[-48:]).is_client
    assert facts(read(LINE, packet(kexinit()), packet(bytes([NEWKEYS]))))[:4] == (
        *(Outcome.DONE, CLIENT_BANNER, CLIENT_KEXINIT, None),
    )


@pytest.mark.parametrize(
    ("stream", "banner"),
    [
        (b"SSH-2.0-Go\n", b"SSH-2.0-Go"),
        (b"SSH-2.0-Cisco-1.25\0\r\n", b"SSH-2.0-Cisco-1.25\0"),
        (b"SSH-1.99-\xff \r\r\n", b"SSH-1.99-\xff \r"),
        (b"Welcome\r\nto us\n\nSSH-2.0-x\r\n", b"SSH-2.0-x"),
        (b"SSH-2.0-" + b"x" * 400 + b"\n", b"SSH-2.0-" + b"x" * (SSH_BANNER_BYTES - 8)),
    ],
)
def test_a_banner_is_taken_as_it_was_sent(stream: bytes, banner: bytes) -> None:
    assert read(stream).banner == banner
    assert read(stream).outcome is Outcome.NEED_MORE
    whole = read(stream + packet(kexinit()))
    assert (whole.banner, whole.kexinit) == (banner, CLIENT_KEXINIT)


def test_the_first_version_ends_with_its_banner() -> None:
    assert facts(read(b"SSH-1.5-OpenSSH-1.2.27\n"))[:3] == (
        *(Outcome.DONE, b"SSH-1.5-OpenSSH-1.2.27", None),
    )


def test_a_misspelled_banner_is_one_before_a_kexinit_only() -> None:
    odd = b"-HSS2.0-libssh_0.9.6\r\n"
    assert facts(read(odd + packet(kexinit())))[1:3] == (odd[:-2], CLIENT_KEXINIT)
    assert facts(read(odd + b"\0\0\0\x0c\x0a\x15"))[:2] == (Outcome.NOT_SSH, None)


@pytest.mark.parametrize("stream", [b"SSH-2.0-no end", b"SSH-"])
def test_at_the_end_a_banner_needs_no_end_of_line(stream: bytes) -> None:
    reader = read(stream)
    assert reader.banner is None
    assert reader.finish() is Outcome.DONE
    assert (reader.banner, reader.held) == (stream, 0)


@pytest.mark.parametrize("stream", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"SSH"])
def test_other_bytes_are_none(stream: bytes) -> None:
    reader = read(stream)
    assert reader.finish() is Outcome.NOT_SSH
    assert facts(reader)[1:] == (None, None, None, 0)


@pytest.mark.parametrize(
    "tail",
    [
        b"\0\0\0\x01\0\x14",
        b"\xff\xff\xff\xff\x04\x14",
        b"\0\0\0\x06\x06\x14",
        packet(bytes([99])),
        packet(kexinit()[:-1]),
        packet(kexinit() + b"x"),
    ],
    ids=["short", "long", "all padding", "another message", "cut lists", "more than lists"],
)
def test_malformed_packets_end_the_reading(tail: bytes) -> None:
    reader = read(LINE + tail, packet(kexinit()))
    assert facts(reader) == (Outcome.DONE, CLIENT_BANNER, None, None, 0)


def test_memory_is_bounded() -> None:
    endless = read(*[b"x" * 1_000] * 100)
    assert facts(endless) == (Outcome.NOT_SSH, None, None, None, 0)
    long = read(LINE + b"\0\0\x80\0\x04\x14" + bytes(SSH_HEAD_BYTES))
    assert facts(long) == (Outcome.DONE, CLIENT_BANNER, None, None, 0)
    lines = Reader()
    for _ in range(1_000):
        lines.feed(b"line\n" * 10)
        assert lines.held <= SSH_HEAD_BYTES
    assert lines.outcome is Outcome.NOT_SSH
