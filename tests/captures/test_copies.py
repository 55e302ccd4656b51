"""A packet that passed two interfaces of one capture counts once."""

from __future__ import annotations

import pytest

from deckwire.captures import Copies, Frame
from deckwire.limits import CAPTURE_COPIES, CAPTURE_COPY_NS
from tests.captures.test_linktypes import V4, cooked, cooked2

FIRST = Frame(0, 276, b"\x08\x00\0\0\0\0\0\x02" + bytes(12) + V4, 60)


def later(ns: int, interface: int = 7, packet: bytes = V4) -> Frame:
    data = b"\x08\x00\0\0\0\0\0" + bytes([interface]) + bytes(12) + packet
    return Frame(ns, 276, data, len(data))


def test_the_second_interface_has_a_copy() -> None:
    copies = Copies()
    assert [copies.is_copy(one) for one in (FIRST, later(2_000), later(3_000, 8))] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "again",
    [
        later(2_000, 2),
        later(CAPTURE_COPY_NS + 1),
        later(2_000, packet=V4[:-1] + b"x"),
        Frame(2_000, 1, bytes(12) + b"\x08\x00" + V4, 54),
    ],
    ids=["the same interface", "too late", "other bytes", "Ethernet"],
)
def test_what_was_sent_twice_is_no_copy(again: Frame) -> None:
    copies = Copies()
    assert not copies.is_copy(FIRST)
    assert not copies.is_copy(again)


def test_the_older_cooked_header_shows_the_way_through_the_interface() -> None:
    data = cooked(0x0800, V4)
    out = b"\x00\x04" + data[2:]
    copies = Copies()
    assert not copies.is_copy(Frame(0, 113, data, len(data)))
    assert not copies.is_copy(Frame(1, 113, data, len(data)))
    assert copies.is_copy(Frame(2, 113, out, len(out)))


def test_what_is_kept_is_bounded() -> None:
    copies = Copies()
    for n in range(2 * CAPTURE_COPIES):
        data = cooked2(0x0800, n.to_bytes(4, "big"))
        copies.is_copy(Frame(n, 276, data, len(data)))
    assert len(copies._seen) == CAPTURE_COPIES
    copies.is_copy(later(10 * CAPTURE_COPY_NS))
    assert len(copies._seen) == 1
