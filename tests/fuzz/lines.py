"""Readers of Deckwire's lines that share nothing with its formatters, and what lines must be."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from deckwire.limits import LINE_BYTES

HEADER = re.compile(
    r"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00)"
    r" ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) \[([!-~]{3,32}?)(?= |\])"
)
PARAM = re.compile(r' ([!#-<>-\\^-~]{1,32})="((?:[^"\\\]]|\\["\\\]])*)"')
ESCAPED = re.compile(r'\\(["\\\]])')


class SyslogLine(NamedTuple):
    """One RFC 5424 line whose structured data has one element and which has no message."""

    priority: int
    timestamp: str
    host: str
    app_name: str
    procid: str
    msgid: str
    sd_id: str
    params: list[tuple[str, str]]
    """Values with RFC 5424's own escapes undone."""


def read_syslog(line: bytes) -> SyslogLine:
    """The line taken apart by RFC 5424's grammar; AssertionError if it is not of it."""
    text = line.decode()
    header = HEADER.match(text)
    assert header, text
    params = []
    at = header.end()
    while param := PARAM.match(text, at):
        params.append((param[1], ESCAPED.sub(r"\1", param[2])))
        at = param.end()
    assert text[at:] == "]", text[at:]
    return SyslogLine(int(header[1]), *header.groups()[1:], params)  # type: ignore[arg-type]


def read_json(line: bytes) -> dict[str, Any]:
    """The line as a JSON object; AssertionError if a key stands twice anywhere."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        assert len(found) == len(pairs), pairs
        return found

    document = json.loads(line, object_pairs_hook=once)
    assert list(document)[:5] == ["ts", "host", "event", "severity", "fields"]
    return dict(document)


def check_harmless(line: bytes) -> None:
    """Nothing in the line that a terminal or a line reader could obey, and not too much of it."""
    assert len(line) <= LINE_BYTES, len(line)
    text = line.decode()
    assert text.isprintable(), [c for c in text if not c.isprintable()]


def check_message(text: str) -> None:
    """An error's text is one line of printable characters, and short."""
    assert text.isprintable(), text
    assert len(text) < 2_000, len(text)
