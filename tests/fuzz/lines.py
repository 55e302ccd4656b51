"""Check the lines that Deckwire writes, with parsers that share no code with its formatters."""

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
    """A line of RFC 5424 with one element of structured data and without a message."""

    priority: int
    timestamp: str
    host: str
    app_name: str
    procid: str
    msgid: str
    sd_id: str
    params: list[tuple[str, str]]
    """Names and values; values without the escapes of RFC 5424."""


def read_syslog(line: bytes) -> SyslogLine:
    """Parse a line by the grammar of RFC 5424; raises AssertionError if it does not follow it."""
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
    """Parse a line as a JSON object; raises AssertionError if any object has a key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        assert len(found) == len(pairs), pairs
        return found

    document = json.loads(line, object_pairs_hook=once)
    assert list(document)[:5] == ["ts", "host", "event", "severity", "fields"]
    return dict(document)


def check_harmless(line: bytes) -> None:
    """Assert that a line is short enough and has no character that a terminal interprets."""
    assert len(line) <= LINE_BYTES, len(line)
    text = line.decode()
    assert text.isprintable(), [c for c in text if not c.isprintable()]


def check_message(text: str) -> None:
    """Assert that the text of an error is one short line of printable characters."""
    assert text.isprintable(), text
    assert len(text) < 2_000, len(text)
