"""Escaping: no character that a terminal or a reader of lines obeys passes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import ESCAPE_CACHE, VALUE_BYTES
from deckwire.output.escape import Escape, fitting, hex_escape, text

PLAIN = {"\\": "\\"}
SYSLOG = {'"': '\\"', "\\": "\\\\", "]": "\\]"}
ANY_TEXT = st.text(st.characters(codec=None), max_size=200)


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        ("\n", r"\x0a"),
        ("\0", r"\x00"),
        ("\x1b", r"\x1b"),
        ("\x7f", r"\x7f"),
        ("\x85", r"\x85"),
        ("\udc80", r"\x80"),
        ("\udcff", r"\xff"),
        ("\u2028", r"\xe2\x80\xa8"),
        ("\u202e", r"\xe2\x80\xae"),
        ("\ufeff", r"\xef\xbb\xbf"),
        ("\ud800", r"\xed\xa0\x80"),
        ("\U000e0041", r"\xf3\xa0\x81\x81"),
    ],
)
def test_a_character_that_is_not_printable_becomes_its_code(character: str, expected: str) -> None:
    assert hex_escape(character) == expected
    assert Escape(PLAIN)(f"a{character}b") == f"a{expected}b"


@pytest.mark.parametrize(
    "code",
    [
        *range(0x20),
        *range(0x7F, 0xA0),
        0x61C,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2065),
        *range(0x2066, 0x206A),
        0xFEFF,
        *range(0xDC80, 0xDD00),
    ],
)
def test_dangerous_characters_never_stay(code: int) -> None:
    assert chr(code) not in Escape(PLAIN)(f"x{chr(code)}y")


@pytest.mark.parametrize("value", ["", "www.example.com", "münchen", "日本語", "a b~!"])
def test_printable_text_stays(value: str) -> None:
    assert Escape(SYSLOG)(value) == value


def test_special_characters_and_the_backslash_of_a_spelled_one_are_escaped() -> None:
    assert Escape(SYSLOG)('a"b\\c]d\n') == 'a\\"b\\\\c\\]d\\\\x0a'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (1, "1"),
        (2.4, "2.4"),
        (0.0, "0.0"),
        (("h2", "http/1.1"), "h2,http/1.1"),
        ((), ""),
        ("x", "x"),
    ],
)
def test_each_type_of_value_as_text(value: object, expected: str) -> None:
    assert text(value) == expected  # type: ignore[arg-type]


def test_exactly_the_limit_is_not_cut() -> None:
    assert Escape(SYSLOG)("a" * VALUE_BYTES) == "a" * VALUE_BYTES
    assert Escape(SYSLOG)("]" * (VALUE_BYTES // 2)) == "\\]" * (VALUE_BYTES // 2)
    assert Escape(SYSLOG)("a" * (VALUE_BYTES + 1)) == "a" * (VALUE_BYTES - 3) + "..."


@given(ANY_TEXT, st.integers(8, 60))
def test_a_cut_value_is_whole_pieces_within_the_limit(value: str, limit: int) -> None:
    escaped = Escape(SYSLOG, limit)(value)
    whole = Escape(SYSLOG, 10_000)(value)
    assert len(escaped.encode()) <= limit
    assert all(unicodedata.category(c)[0] not in "C" for c in escaped)
    if escaped != whole:
        kept = escaped.removesuffix("...")
        assert len(whole.encode()) > limit
        assert any(Escape(SYSLOG, 10_000)(value[:end]) == kept for end in range(len(value)))


@given(ANY_TEXT, ANY_TEXT)
def test_text_is_escaped_character_by_character(left: str, right: str) -> None:
    escape = Escape(SYSLOG, 10_000)
    assert escape(left + right) == escape(left) + escape(right)


def test_many_different_characters_do_not_grow_the_memory() -> None:
    escape = Escape(SYSLOG)
    for start in range(0x4E00, 0x4E00 + 2 * ESCAPE_CACHE, 500):
        escape("".join(map(chr, range(start, start + 500))))
    assert len(escape._pieces) == ESCAPE_CACHE


@pytest.mark.parametrize(
    ("parts", "limit", "expected"),
    [
        ([], 5, ""),
        (["abc", "de"], 5, "abcde"),
        (["abc", "def"], 5, "abc!!"),
        (["abcd", "ef"], 5, "!!"),
        (["é", "é", "é"], 5, "é!!"),
    ],
)
def test_parts_are_kept_as_long_as_they_fit(parts: list[str], limit: int, expected: str) -> None:
    assert fitting(parts, limit, "!!") == expected


def test_parts_after_the_cut_are_never_made() -> None:
    made: list[int] = []

    def parts() -> object:
        for number in range(1000):
            made.append(number)
            yield "x" * 10

    assert fitting(parts(), 25, "!") == "x" * 20 + "!"  # type: ignore[arg-type]
    assert len(made) == 3
