r"""Hostile text made safe for a line: a terminal or a line reader finds nothing to obey in it.

A character stays if Unicode calls it printable. Every other one becomes the text ``\xNN``:

- controls (C0, DEL, C1), line and paragraph separators, spaces other than U+0020;
- format characters: bidirectional overrides, zero-width characters, the byte order mark;
- lone surrogates, private and unassigned code points.

Up to U+00FF, NN is the code point. Above it, each UTF-8 byte is written. ``surrogateescape``
carries bytes that are not UTF-8 as U+DC80 to U+DCFF: of these the byte is written.

The text is lossy on purpose: a peer that sends the four characters ``\x0a`` looks like one that
sends a newline.
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


def hex_escape(character: str) -> str:
    r"""The ``\xNN`` text of one character, by the module's rule."""
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


class Escape:
    """Writes text as one format needs it, in at most `limit` bytes of UTF-8.

    `special` maps the format's own special characters to what it writes for them; the backslash
    must be one of them.
    """

    def __init__(self, special: Mapping[str, str], limit: int = VALUE_BYTES) -> None:
        plain = "".join(re.escape(c) for c in map(chr, range(0x20, 0x7F)) if c not in special)
        self.is_plain = re.compile(f"[{plain}]{{0,{limit}}}").fullmatch
        """Whether a text needs no change: printable ASCII, nothing special, not too long."""
        self._pieces = _Pieces(special)
        self._limit = limit

    def __call__(self, text: str) -> str:
        """`text` escaped. If it is cut, then between two of its characters; it ends in ``...``."""
        if self.is_plain(text):
            return text
        # Each character takes a byte at least, so those after the limit cannot matter.
        characters = text[: self._limit + 1]
        return fitting(map(self._pieces.__getitem__, characters), self._limit, _CUT)


def fitting(parts: Iterable[str], limit: int, marker: str) -> str:
    """The leading `parts` that fit into `limit` bytes of UTF-8, and `marker` if not all do.

    `parts` may make them one by one: those after the first that does not fit are never made. So a
    peer cannot cause work with text for which no line has room.
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
    """How each character is written, bounded by ESCAPE_CACHE."""

    def __init__(self, special: Mapping[str, str]) -> None:
        super().__init__(special)
        self._backslash = special["\\"]

    def __missing__(self, character: str) -> str:
        piece = character
        if not character.isprintable():
            piece = hex_escape(character).replace("\\", self._backslash)
        if len(self) < ESCAPE_CACHE:
            self[character] = piece
        return piece
