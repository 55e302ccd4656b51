from __future__ import annotations

import pytest

from deckwire.payloads.cursor import Cursor, Cut
from deckwire.payloads.finding import Kind, Piece


def test_fields_in_their_order() -> None:
    cursor = Cursor(b"\1\2\3ab\0c", 1)
    assert (cursor.number(1), cursor.number(1, "little")) == (2, 3)
    assert (cursor.until_nul(), cursor.take(1)) == (b"ab", b"c")
    with pytest.raises(Cut):
        cursor.take(1)


def test_text_without_its_end_is_cut() -> None:
    with pytest.raises(Cut):
        Cursor(b"ab").until_nul()


def test_a_cut_piece_has_no_value() -> None:
    assert Cursor(b"abc").piece(Kind.USER, 2) == Piece(Kind.USER, b"ab", 0, 2)
    assert Cursor(b"abc").piece(Kind.USER, 4) == Piece(Kind.USER, None, 0, 3)
    assert Cursor(b"abc", 3).piece(Kind.USER, 4) == Piece(Kind.USER, None, 3, 3)
