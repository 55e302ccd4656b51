"""The formats by name, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deckwire.output.decnet_json import DecnetJsonFormat
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import Format
from deckwire.output.syslog import APP_NAME, PROCID, SD_ID, SyslogFormat

SYSLOG = "syslog"
"""Also the format of a log that has a twin."""
DECNET_JSON = "decnet-json"
"""Also what an output writes into the twin of its log."""
_JSON, _ECS = "json", "ecs"


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

    def get(self, name: str, headers: Headers) -> Format:
        """The format of one of `deckwire.options.FORMATS`.

        ValueError for headers that no syslog line can have.
        """
        # These have no such headers, so all outputs share them.
        key = name, Headers() if name in (_JSON, _ECS) else headers
        if key not in self._made:
            self._made[key] = _MAKERS[name](self._syslog_of(headers))
        return self._made[key]

    def _syslog_of(self, headers: Headers) -> SyslogFormat:
        if headers not in self._syslog:
            self._syslog[headers] = SyslogFormat(headers.app_name, headers.sd_id, headers.procid)
        return self._syslog[headers]


def _ecs() -> Format:
    from deckwire.output.ecs import EcsFormat  # noqa: PLC0415 - who does not want it need not load it

    return EcsFormat()


_MAKERS: dict[str, Callable[[SyslogFormat], Format]] = {
    SYSLOG: lambda syslog: syslog,
    _JSON: lambda _: JsonFormat(),
    _ECS: lambda _: _ecs(),
    DECNET_JSON: DecnetJsonFormat,
}
