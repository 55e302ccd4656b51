"""KEXINIT: its lists, its marks, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.ssh.messages import KexInit, MalformedKexInit, parse_kexinit
from tests.support.ssh_wire import CLIENT_LISTS, SERVER_LISTS, kexinit


def test_the_lists_of_each_direction() -> None:
    found = parse_kexinit(kexinit())
    assert found == KexInit(*CLIENT_LISTS[:8])
    assert found.ciphers_to_client == b"aes256-gcm@openssh.com"
    assert (found.is_strict, found.has_extensions) == (True, True)


def test_marks_are_names_and_no_parts_of_names() -> None:
    server = parse_kexinit(kexinit(SERVER_LISTS))
    assert (server.is_strict, server.has_extensions) == (True, False)
    odd = parse_kexinit(kexinit([b"ext-info-cc,xext-info-c", *SERVER_LISTS[1:]]))
    assert (odd.is_strict, odd.has_extensions) == (False, False)


@given(st.lists(st.binary(max_size=60), min_size=10, max_size=10))
def test_any_lists_come_out_as_they_were_sent(lists: list[bytes]) -> None:
    assert parse_kexinit(kexinit(lists)) == KexInit(*lists[:8])


@pytest.mark.parametrize("end", [0, 1, 16, 17, 20, 100, -1])
def test_a_cut_one_is_malformed(end: int) -> None:
    with pytest.raises(MalformedKexInit):
        parse_kexinit(kexinit()[:end])


@pytest.mark.parametrize(
    "payload",
    [
        kexinit() + b"\0",
        b"\x15" + kexinit()[1:],
        kexinit()[:17] + b"\xff\xff\xff\xff" + kexinit()[21:],
        kexinit()[:17] + b"\0\0\1\0" + kexinit()[21:],
    ],
    ids=["more", "another message", "endless list", "list too long"],
)
def test_what_is_no_kexinit(payload: bytes) -> None:
    with pytest.raises(MalformedKexInit):
        parse_kexinit(payload)
