"""The formats by name, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deckwire.output.decnet_json import DecnetJsonFormat, TwinFormat
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import Format
from deckwire.output.syslog import APP_NAME, PROCID, SD_ID, SyslogFormat

DECNET_JSON = "decnet-json"
"""Also what an output writes into the twin of its log."""


@dataclass(frozen=True, slots=True)
class Headers:
    """What the header of a syslog line holds besides the event's own values."""

    app_name: str = APP_NAME
    sd_id: str = SD_ID
    procid: str = PROCID


class Formats:
    """Makes each format once, so that an event is formatted once for all outputs that share it."""

    def __init__(self) -> None:
        self._syslog: dict[Headers, SyslogFormat] = {}
        self._made: dict[tuple[str, Headers], Format] = {}

    def get(self, name: str, headers: Headers, *, twin: bool = False) -> Format:
        """The format of one of `deckwire.options.FORMATS`.

        With `twin` it also writes the record of each line. ValueError for headers that no syslog
        line can have.
        """
        make = _MAKERS["twin" if twin else name]
        # JSON has no such headers, so all outputs share it.
        key = name + "+twin" * twin, headers if make is not _json else Headers()
        if key not in self._made:
            self._made[key] = make(self._syslog_of(headers))
        return self._made[key]

    def _syslog_of(self, headers: Headers) -> SyslogFormat:
        if headers not in self._syslog:
            self._syslog[headers] = SyslogFormat(headers.app_name, headers.sd_id, headers.procid)
        return self._syslog[headers]


def _json(_syslog: SyslogFormat) -> Format:
    return JsonFormat()


_MAKERS: dict[str, Callable[[SyslogFormat], Format]] = {
    "syslog": lambda syslog: syslog,
    "json": _json,
    DECNET_JSON: DecnetJsonFormat,
    "twin": TwinFormat,
}
