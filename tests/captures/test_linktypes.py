"""Frames of every supported link type become Ethernet frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.captures import Frame, ethernet

V4 = b"\x45" + bytes(39)
V6 = b"\x60" + bytes(59)
TO_V4, TO_V6 = bytes(12) + b"\x08\x00", bytes(12) + b"\x86\xdd"


def converted(link_type: int, data: bytes) -> bytes | None:
    return ethernet(Frame(0, link_type, data, len(data)))


def cooked(protocol: int, payload: bytes, device: int = 1) -> bytes:
    header = b"\x00\x00" + device.to_bytes(2, "big") + b"\x00\x06" + bytes(8)
    return header + protocol.to_bytes(2, "big") + payload


def cooked2(protocol: int, payload: bytes, device: int = 1) -> bytes:
    header = protocol.to_bytes(2, "big") + bytes(2) + b"\x00\x00\x00\x02"
    return header + device.to_bytes(2, "big") + b"\x00\x06" + bytes(8) + payload


def test_an_ethernet_frame_is_unchanged() -> None:
    frame = b"\x01" * 12 + b"\x08\x00" + V4
    assert converted(1, frame) is frame


@pytest.mark.parametrize("link_type", [12, 14, 101])
def test_raw_ip_gets_the_ethertype_of_its_version(link_type: int) -> None:
    assert converted(link_type, V4) == TO_V4 + V4
    assert converted(link_type, V6) == TO_V6 + V6
    assert converted(link_type, b"\x50" + bytes(39)) is None


def test_raw_ipv4_and_raw_ipv6_have_a_fixed_ethertype() -> None:
    assert converted(228, V4) == TO_V4 + V4
    assert converted(229, V6) == TO_V6 + V6


@pytest.mark.parametrize("link_type", [0, 108])
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(
    ("family", "expected"),
    [(2, TO_V4), (10, TO_V6), (24, TO_V6), (28, TO_V6), (30, TO_V6)],
)
def test_a_loopback_family_gets_an_ethertype(
    link_type: int, order: str, family: int, expected: bytes
) -> None:
    header = family.to_bytes(4, "little" if order == "little" else "big")
    assert converted(link_type, header + V4) == expected + V4


def test_an_unknown_loopback_family_is_not_supported() -> None:
    assert converted(0, (7).to_bytes(4, "little") + V4) is None


@pytest.mark.parametrize(("link_type", "make"), [(113, cooked), (276, cooked2)])
def test_a_cooked_frame_keeps_its_ethertype(link_type: int, make) -> None:  # type: ignore[no-untyped-def]
    assert converted(link_type, make(0x0800, V4)) == TO_V4 + V4
    assert converted(link_type, make(0x86DD, V6)) == TO_V6 + V6
    tagged = bytes.fromhex("00640800") + V4
    assert converted(link_type, make(0x8100, tagged)) == bytes(12) + b"\x81\x00" + tagged
    for protocol in (0x0001, 0x0004, 0x05FF):
        assert converted(link_type, make(protocol, V4)) is None
    for device in (778, 803, 824):
        assert converted(link_type, make(0x0800, V4, device)) is None


@pytest.mark.parametrize(
    ("link_type", "whole", "header"),
    [
        (1, bytes(14), 14),
        (0, b"\x02\0\0\0\x45", 5),
        (113, cooked(0x0800, b"\x45"), 17),
        (276, cooked2(0x0800, b"\x45"), 21),
        (101, b"\x45", 1),
        (228, b"\x45", 1),
        (229, b"\x60", 1),
    ],
)
def test_a_cut_header_is_not_supported(link_type: int, whole: bytes, header: int) -> None:
    assert converted(link_type, whole) is not None
    for length in range(header):
        assert converted(link_type, whole[:length]) is None


@given(st.integers(0, 65_535), st.binary(max_size=64))
def test_any_bytes_become_a_frame_or_none(link_type: int, data: bytes) -> None:
    result = converted(link_type, data)
    if result is not None:
        assert len(result) >= 14
        assert result == data or data.endswith(result[14:])


@pytest.mark.parametrize("link_type", [105, 127, 147, 189, 65_535])
def test_other_link_types_are_not_supported(link_type: int) -> None:
    assert converted(link_type, V4) is None
