"""Texts of addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.tcp.addresses import address_text

MAPPED = bytes(10) + b"\xff\xff\xc0\0\2\x09"


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (MAPPED, "192.0.2.9"),
        (ipaddress.ip_address("2001:db8::1").packed, "2001:db8::1"),
        (bytes(16), "::"),
        (bytes(10) + b"\xff\xff" + bytes(4), "0.0.0.0"),
        (bytes(12) + b"\xc0\0\2\x09", "::c000:209"),
    ],
)
def test_address_text(packed: bytes, text: str) -> None:
    assert address_text(packed) == text


@given(st.binary(min_size=16, max_size=16))
def test_every_address_can_be_had_back(packed: bytes) -> None:
    address = ipaddress.ip_address(address_text(packed))
    mapped = bytes(10) + b"\xff\xff" if address.version == 4 else b""
    assert mapped + address.packed == packed


@given(
    st.lists(st.sampled_from([b"\0\0", b"\xff\xff", b"\0\1", b"\xc0\0"]), min_size=8, max_size=8)
)
def test_texts_are_those_of_the_standard_library(groups: list[bytes]) -> None:
    packed = b"".join(groups)
    address = ipaddress.IPv6Address(packed)
    assert address_text(packed) == str(address.ipv4_mapped or address)
