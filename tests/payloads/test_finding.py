from __future__ import annotations

from deckwire.payloads.finding import Kind, Line, Piece, Secret, lines, login, shown


def test_lines_with_and_without_their_end() -> None:
    assert [*lines(b"a\r\n\nb\nc")] == [
        *(Line(b"a", 0, True), Line(b"", 3, True), Line(b"b", 4, True), Line(b"c", 6, False)),
    ]
    assert [*lines(b"")] == []
    assert [line.end for line in lines(b"ab\r\nc")] == [2, 5]


def test_a_login_is_the_first_attempt() -> None:
    pieces = [
        Piece(Kind.USER, b"a", 0, 1),
        Piece(Kind.USER, b"b", 2, 3),
        Piece(Kind.PASSWORD, b"1", 4, 5),
        Piece(Kind.USER, b"c", 6, 7),
        Piece(Kind.PASSWORD, b"2", 8, 9),
        Piece(Kind.SECRET, None, 10, 11),
    ]
    found = login(pieces, ("database", "d"))
    assert dict(found.fields) == {
        "login_user": "b",
        "login_password": "1",
        "login_attempts": 2,
        "database": "d",
    }
    assert found.secrets == tuple(Secret(0, at, at + 1) for at in range(0, 12, 2))


def test_text_is_bounded_and_keeps_its_bytes() -> None:
    assert len(shown(b"x" * 999)) == 128
    assert shown(b"\xff\0").encode("utf-8", "surrogateescape") == b"\xff\0"
