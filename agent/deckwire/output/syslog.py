r"""Events as RFC 5424 lines: ``<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [SD-ID ...]``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from deckwire.errors import shown
from deckwire.events.event import SCHEMA, Block, Event, Field
from deckwire.events.timestamp import timestamp
from deckwire.limits import HEADERS, LINE_BYTES, SHAPES, VALUE_BYTES
from deckwire.output.escape import Escape, fitting, text

APP_NAME: Final = "sniffer"
SD_ID: Final = "decnet@55555"
RELAY_SD_ID: Final = "relay@55555"
PROCID: Final = "-"

_LOCAL0: Final = 16
_CUT: Final = ' cut="true"'
_TAIL: Final = f'" schema="{SCHEMA}"]'
"""What follows the event's id."""
_SPECIAL: Final = {'"': '\\"', "\\": "\\\\", "]": "\\]"}
# The collector of DECNET's relay ends structured data at any bracket, escaped or not.
_RELAY_SPECIAL: Final = _SPECIAL | {"]": "\\\\x5d"}

_NUMBERS: Final = frozenset((int, float))
"""Types whose text is what str() makes, and needs no escaping."""
_AS_THEY_STAND: Final = _NUMBERS | {str}
"""Types whose text is what str() makes."""

_PLAIN: Final = bytes(set(range(0x20, 0x7F)) - set(b'"\\]'))
"""Printable ASCII without the characters that are escaped."""

_HOSTNAME_LENGTH, _APP_NAME_LENGTH, _PROCID_LENGTH = 255, 48, 128
_MSGID_LENGTH, _SD_ID_LENGTH = 32, 32
"""Longest header fields and SD-ID (RFC 5424, 6)."""
_PRINTABLE: Final = re.compile(r"[!-~]+")
_NOT_PRINTABLE: Final = re.compile(r"[^!-~]")
_SD_ID: Final = re.compile(r"[!#-<>-?A-\\^-~]+@[0-9]+(\.[0-9]+)*")
"""RFC 5424, 6.3.2: names without ``@`` belong to IANA, others end in an enterprise number."""


class SyslogFormat:
    """RFC 5424 without MSG: all fields are in one structured data element.

    Raises ValueError with one line for the user: see `check_app_name`, `check_sd_id` and
    `check_procid`.
    """

    def __init__(self, app_name: str = APP_NAME, sd_id: str = SD_ID, procid: str = PROCID) -> None:
        self._app_name = check_app_name(app_name)
        self._procid = check_procid(procid)
        self._sd_id = check_sd_id(sd_id)
        self._escape = Escape(_RELAY_SPECIAL if sd_id == RELAY_SD_ID else _SPECIAL)
        # Most lines are of the same few deckies and events.
        self._header = lru_cache(maxsize=HEADERS)(self._headers)
        self._stamp = lru_cache(maxsize=1)(self._stamp_of)

    def line(self, event: Event) -> bytes:
        """The event in at most LINE_BYTES bytes of UTF-8, without control characters or newline.

        A longer event loses whole fields from its end, and `cut` says so. The stamp stays.
        """
        # One slice takes less time than five look-ups of a name.
        name, time_ns, host, parts, severity = event[:5]
        before, after = self._header(severity, host, name)
        head = f"{before}{timestamp(time_ns)}{after}"
        params = [
            (part.text if part.writer is self else self._written(part))
            if type(part) is Block
            else f' {part[0]}="{part[1]}"'
            if type(part[1]) in _NUMBERS
            else self._param(part)
            for part in parts
        ]
        event_id = event.event_id
        tail = f"{self._stamp(event.sensor)}{event_id}{_TAIL}" if event_id else "]"
        line = f"{head}{''.join(params)}{tail}".encode()
        if len(line) <= LINE_BYTES:
            return line
        room = LINE_BYTES - len(head) - len(tail.encode())
        return f"{head}{fitting(map(self._param, event.fields), room, _CUT)}{tail}".encode()

    def _written(self, block: Block) -> str:
        if block.plain:
            names, values = zip(*block.fields, strict=True)
            written = _template(names) % values
        else:
            written = self._params(block)
        block.text, block.writer = written, self
        return written

    def _params(self, block: Block) -> str:
        params = "".join(
            [
                f' {name}="{value if type(value) in _AS_THEY_STAND else text(value)}"'
                for name, value in block.fields
            ]
        )
        # Nearly all fields are plain, so one look at all together is cheaper than one at each:
        # without the plain characters only the quotes around the values are left.
        if (
            len(params) > VALUE_BYTES
            or not params.isascii()
            or params.encode().translate(None, _PLAIN) != b'"' * (2 * len(block.fields))
        ):
            params = "".join(map(self._param, block.fields))
        return params

    def _param(self, field: Field) -> str:
        name, value = field
        if type(value) in _NUMBERS:
            return f' {name}="{value}"'
        return f' {name}="{self._escape(text(value))}"'

    def _stamp_of(self, sensor: str) -> str:
        """What precedes the event's id."""
        return f'{self._param(("sensor", sensor))} event_id="'

    def _headers(self, severity: int, host: str, name: str) -> tuple[str, str]:
        """What precedes a line's time, and what follows it up to the first field."""
        hostname, msgid = _field(host, _HOSTNAME_LENGTH), _field(name, _MSGID_LENGTH)
        before = f"<{_LOCAL0 * 8 + severity}>1 "
        return before, f" {hostname} {self._app_name} {self._procid} {msgid} [{self._sd_id}"


@lru_cache(maxsize=SHAPES)
def _template(names: tuple[str, ...]) -> str:
    """Fields of these names, for the operator that writes all values in one go."""
    return "".join([f' {name}="%s"' for name in names])


def check_app_name(name: str) -> str:
    """The name, if it can be an APP-NAME (RFC 5424, 6.2.5); else ValueError for the user."""
    return _check_header(name, "APP-NAME", _APP_NAME_LENGTH)


def check_procid(name: str) -> str:
    """The name, if it can be a PROCID (RFC 5424, 6.2.6); else ValueError for the user."""
    return _check_header(name, "PROCID", _PROCID_LENGTH)


def check_sd_id(name: str) -> str:
    """The name, if it can be an SD-ID (RFC 5424, 6.3.2); else ValueError for the user."""
    if len(name) > _SD_ID_LENGTH or not _SD_ID.fullmatch(name):
        raise ValueError(
            f"{shown(name)} is no SD-ID; use NAME@NUMBER of at most {_SD_ID_LENGTH} printable ASCII"
            ' characters without =, ], " or space'
        )
    return name


def _check_header(name: str, header: str, longest: int) -> str:
    if len(name) > longest or not _PRINTABLE.fullmatch(name):
        raise ValueError(
            f"{shown(name)} is no {header}; use 1 to {longest} printable ASCII characters"
            " without space"
        )
    return name


def _field(name: str, longest: int) -> str:
    """A header field (RFC 5424, 6): printable ASCII without spaces, ``-`` if empty."""
    if not _PRINTABLE.fullmatch(name):
        name = _NOT_PRINTABLE.sub("?", name) or "-"
    return name[:longest]
