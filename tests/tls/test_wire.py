"""Layouts check every length against the bytes present."""

from __future__ import annotations

import struct

import pytest
from construct import Int8ub, Int16ub, Int24ub
from hypothesis import given
from hypothesis import strategies as st

from deckwire.tls.errors import Malformed
from deckwire.tls.wire import Layout, Vector, entries, numbers, whole

LAYOUT = Layout(
    "thing",
    "first" / Int16ub,
    Vector("short", Int8ub),
    "middle" / Int8ub,
    Vector("long", Int24ub),
)


@given(st.integers(0, 0xFFFF), st.binary(max_size=255), st.binary(max_size=300), st.binary())
def test_a_layout_reads_what_was_written(
    first: int, short: bytes, long: bytes, rest: bytes
) -> None:
    head = first.to_bytes(2, "big") + bytes([len(short)]) + short
    text = head + b"\x2a" + len(long).to_bytes(3, "big") + long
    fields = LAYOUT.parse(text + rest)
    assert (fields.first, fields.short, fields.middle) == (first, short, 42)
    assert (fields.long, fields.rest) == (long, rest)
    for length in range(len(text)):
        with pytest.raises(Malformed, match="thing too short"):
            LAYOUT.parse(text[:length])
    assert LAYOUT.parse_cut(text + rest).rest == rest


def test_a_cut_layout_needs_its_fixed_fields() -> None:
    with pytest.raises(Malformed, match="thing cut before first"):
        LAYOUT.parse_cut(b"\0")
    with pytest.raises(Malformed, match="thing cut before middle"):
        LAYOUT.parse_cut(b"\0\0\5abc")
    fields = LAYOUT.parse_cut(b"\0\0\3abc\1\0\0")
    assert (fields.short, fields.middle, fields.long, fields.rest) == (b"abc", 1, b"", b"")


def test_whole_rejects_bytes_after_the_vector() -> None:
    layout = Layout("list", Vector("content", Int8ub))
    assert whole(layout, b"\2ab") == b"ab"
    with pytest.raises(Malformed, match="bytes after a vector"):
        whole(layout, b"\2abc")


def test_numbers_are_16_bits_wide() -> None:
    assert numbers(b"") == ()
    assert numbers(b"\0\1\xff\xfe") == (1, 0xFFFE)
    with pytest.raises(Malformed):
        numbers(b"\0\1\2")


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=20)), max_size=8))
def test_entries_end_at_a_cut(items: list[tuple[int, bytes]]) -> None:
    header = struct.Struct(">HH")
    text = b""
    ends = [0]
    for kind, data in items:
        text += header.pack(kind, len(data)) + data
        ends.append(len(text))
    assert list(entries(text, header)) == items
    for length in range(len(text)):
        complete = sum(end <= length for end in ends) - 1
        assert list(entries(text[:length], header, cut=True)) == items[:complete]
        if length in ends:
            assert list(entries(text[:length], header)) == items[:complete]
        else:
            with pytest.raises(Malformed):
                list(entries(text[:length], header))
