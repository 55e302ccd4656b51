r"""Hostile text made fit for a line: nothing that a terminal or a line reader could obey.

A character stays if Unicode calls it printable. All others are spelled as the text ``\xNN``:
controls (C0, DEL, C1), line and paragraph separators, format characters (bidirectional overrides,
zero-width characters, the byte order mark), lone surrogates, private and unassigned code points,
spaces other than U+0020. Up to U+00FF NN is the code point, above it each UTF-8 byte is spelled;
U+DC80 to U+DCFF, which is how ``surrogateescape`` carries bytes that are not UTF-8, give the byte.

The text is lossy on purpose: a peer that sends the four characters ``\x0a`` reads like one that
sent a newline.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from deckwire.events.event import Value
from deckwire.limits import ESCAPE_CACHE, VALUE_BYTES

_CUT = "..."


def text(value: Value) -> str:
    """A field's value as syslog prints it: ``true``/``false``, lists joined by a comma."""
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def spelled(character: str) -> str:
    r"""The ``\xNN`` text of one character, see the module's rule."""
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


class Escape:
    """One format's way of writing text, in at most `limit` bytes of UTF-8.

    `special` says how the format writes its own special characters; the backslash must be one.
    """

    def __init__(self, special: Mapping[str, str], limit: int = VALUE_BYTES) -> None:
        plain = "".join(re.escape(c) for c in map(chr, range(0x20, 0x7F)) if c not in special)
        self.is_plain = re.compile(f"[{plain}]{{0,{limit}}}").fullmatch
        """Whether a text goes out as it stands: printable ASCII, nothing special, not too long."""
        self._pieces = _Pieces(special)
        self._limit = limit

    def __call__(self, text: str) -> str:
        """`text` escaped; if cut, between two characters of the source, and ending in ``...``."""
        if self.is_plain(text):
            return text
        # No character takes less than a byte, so what stands behind the limit cannot matter.
        characters = text[: self._limit + 1]
        return fitting(map(self._pieces.__getitem__, characters), self._limit, _CUT)


def fitting(parts: Iterable[str], limit: int, marker: str) -> str:
    """The leading `parts` that fit into `limit` bytes of UTF-8, and `marker` if not all do.

    Parts behind the first that does not fit are never made, if `parts` makes them one by one:
    a peer cannot buy work with text that no line has room for.
    """
    kept: list[str] = []
    size = 0
    room = limit - len(marker)
    sure = 0
    for part in parts:
        size += len(part) if part.isascii() else len(part.encode())
        if size > limit:
            return "".join(kept[:sure]) + marker
        kept.append(part)
        if size <= room:
            sure = len(kept)
    return "".join(kept)


class _Pieces(dict[str, str]):
    """How each character is written; a peer who sends many different ones cannot make it grow."""

    def __init__(self, special: Mapping[str, str]) -> None:
        super().__init__(special)
        self._backslash = special["\\"]

    def __missing__(self, character: str) -> str:
        piece = character
        if not character.isprintable():
            piece = spelled(character).replace("\\", self._backslash)
        if len(self) < ESCAPE_CACHE:
            self[character] = piece
        return piece
