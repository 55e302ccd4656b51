"""The text of what a client sends; its fields are tested with the events that carry them."""

from __future__ import annotations

from deckwire.events.client import wire_text


def test_bytes_that_are_not_utf8_can_be_had_back() -> None:
    assert wire_text(b"\xff\x00\xc3\xa9").encode("utf-8", "surrogateescape") == b"\xff\x00\xc3\xa9"
