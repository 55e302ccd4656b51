r"""Events as RFC 5424 lines: ``<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [SD-ID ...]``."""

from __future__ import annotations

import re
from functools import lru_cache

from deckwire.events.event import Block, Event, Field
from deckwire.events.timestamp import timestamp
from deckwire.limits import HEADERS, LINE_BYTES, VALUE_BYTES
from deckwire.output.escape import Escape, fitting, text

APP_NAME = "sniffer"
SD_ID = "decnet@55555"
RELAY_SD_ID = "relay@55555"

_LOCAL0 = 16
_CUT = ' cut="true"'
_SPECIAL = {'"': '\\"', "\\": "\\\\", "]": "\\]"}
# The relay's collector ends structured data at any bracket, escaped or not.
_RELAY_SPECIAL = _SPECIAL | {"]": "\\\\x5d"}

_NUMBERS = frozenset((int, float))
"""Types whose text is str()'s and plain."""
_AS_THEY_STAND = _NUMBERS | {str}
"""Types whose text is str()'s."""

_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\]'))
"""Printable ASCII without what is escaped."""

_PRINTABLE = re.compile(r"[!-~]+")
_NOT_PRINTABLE = re.compile(r"[^!-~]")
# RFC 5424, 6.3.2: names without "@" belong to IANA, others end in an enterprise number.
_SD_ID = re.compile(r"(?=.{3,32}\Z)[!#-<>-?A-\\^-~]+@[0-9]+(\.[0-9]+)*")


class SyslogFormat:
    """RFC 5424 without MSG: all that is told stands in one structured data element.

    Raises ValueError, with a line for the user, if a name breaks RFC 5424 sections 6.2 or 6.3.
    """

    def __init__(self, app_name: str = APP_NAME, sd_id: str = SD_ID, procid: str = "-") -> None:
        _check("app_name", app_name, 48)
        _check("procid", procid, 128)
        if not _SD_ID.fullmatch(sd_id):
            raise ValueError(
                f"sd_id {sd_id!r}: must be NAME@NUMBER in at most 32 printable ASCII characters,"
                ' without space, "=", "]" or a quote (RFC 5424, 6.3.2)'
            )
        self._origin = f"{app_name} {procid}"
        self._sd_id = sd_id
        self._escape = Escape(_RELAY_SPECIAL if sd_id == RELAY_SD_ID else _SPECIAL)
        # The same few deckies and events all the time.
        self._header = lru_cache(maxsize=HEADERS)(self._headers)

    def line(self, event: Event) -> bytes:
        """The event in at most LINE_BYTES bytes of UTF-8, without control characters or newline.

        Whole fields are dropped from the end of a longer one, and `cut` is then the last.
        """
        before, behind = self._header(event.severity, event.host, event.name)
        head = f"{before}{timestamp(event.time_ns)}{behind}"
        params = [
            (part.text if part.writer is self else self._written(part))
            if type(part) is Block
            else f' {part[0]}="{part[1]}"'
            if type(part[1]) in _NUMBERS
            else self._param(part)
            for part in event.parts
        ]
        line = f"{head}{''.join(params)}]".encode()
        if len(line) <= LINE_BYTES:
            return line
        room = LINE_BYTES - len(head) - 1
        return f"{head}{fitting(map(self._param, event.fields), room, _CUT)}]".encode()

    def _written(self, block: Block) -> str:
        params = "".join(
            [
                f' {name}="{value if type(value) in _AS_THEY_STAND else text(value)}"'
                for name, value in block.fields
            ]
        )
        # Nearly all are plain throughout: one look at all is cheaper than one at each.
        # Without what is plain nothing is left of them but the quotes around their values.
        if (
            len(params) > VALUE_BYTES
            or not params.isascii()
            or params.encode().translate(None, _PLAIN) != b'"' * (2 * len(block.fields))
        ):
            params = "".join(map(self._param, block.fields))
        block.text, block.writer = params, self
        return params

    def _param(self, field: Field) -> str:
        name, value = field
        if type(value) in _NUMBERS:
            return f' {name}="{value}"'
        return f' {name}="{self._escape(text(value))}"'

    def _headers(self, severity: int, host: str, name: str) -> tuple[str, str]:
        """A line's head before and behind its time."""
        before = f"<{_LOCAL0 * 8 + severity}>1 "
        behind = f" {_header(host, 255)} {self._origin} {_header(name, 32)} [{self._sd_id}"
        return before, behind


def _check(what: str, name: str, longest: int) -> None:
    if len(name) > longest or not _PRINTABLE.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}: must be 1 to {longest} printable ASCII characters without space"
            " (RFC 5424, 6.2)"
        )


def _header(name: str, longest: int) -> str:
    """A header field (RFC 5424, 6): printable ASCII without spaces, ``-`` if empty."""
    if not _PRINTABLE.fullmatch(name):
        name = _NOT_PRINTABLE.sub("?", name) or "-"
    return name[:longest]
