"""One thing told: the value between the fingerprints and the sinks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

WARNING = 4
INFORMATIONAL = 6

Value = str | int | float | bool | tuple[str, ...]
"""Text stands as it is; numbers, booleans and lists keep their type so that JSON can."""


class Event(NamedTuple):
    """One event of docs/events.md, complete but not yet formatted.

    Text in `fields` may come from the wire and be hostile: escaping is the formatter's work.
    """

    name: str
    """The RFC 5424 MSGID, e.g. ``tls_client_hello``."""
    time_ns: int
    """Wall-clock nanoseconds since the epoch, taken in the kernel at the completing packet."""
    host: str
    """The decky's name, or the host's for summaries."""
    fields: tuple[tuple[str, Value], ...]
    """Name and value in contract order; a field that has nothing to say is absent."""
    severity: int = INFORMATIONAL
    source: str = ""
    """The src_ip of the event: first part of the dedup key."""
    fingerprint: str | None = None
    """Last part of the dedup key; None for events that are never deduplicated."""


class Headline(NamedTuple):
    """What an event is deduplicated by, known before the cost of its fields; names as in Event."""

    name: str
    time_ns: int
    host: str
    source: str
    fingerprint: str | None
    severity: int = INFORMATIONAL

    def event(self, fields: Iterable[tuple[str, Value]]) -> Event:
        """The event with its fields."""
        return Event(
            self.name,
            self.time_ns,
            self.host,
            tuple(fields),
            self.severity,
            self.source,
            self.fingerprint,
        )
