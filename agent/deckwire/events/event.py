"""The event: what the fingerprints are put into and what the sinks write."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, final

from deckwire.limits import WORDS
from deckwire.tcp.flow import FlowSums

WARNING = 4
INFORMATIONAL = 6

SCHEMA = 2
"""Version of docs/events.md. It grows when an event or a field is added or changes."""

STAMP = ("sensor", "event_id", "schema")
"""The fields at the end of every event, in their order."""

Value = str | int | float | bool | tuple[str, ...]
"""Numbers, booleans and lists keep their type for JSON. Text is not escaped."""
Field = tuple[str, Value]
"""Name and value. Text may come from the wire and be hostile; the formatter escapes it."""


@final
class Block:
    """Fields that many events share, with their written form."""

    __slots__ = ("fields", "members", "plain", "text", "writer")

    def __init__(self, fields: Iterable[Field], *, plain: bool = False) -> None:
        self.fields = tuple(fields)
        self.plain = plain
        """Its values are numbers and ASCII text of ours that no format escapes."""
        self.writer: object = None
        """The format that wrote them last."""
        self.text = ""
        """The text that this format wrote."""
        self.members: dict[str, str] | None = None
        """The texts that the ECS format wrote, by their names there."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.fields)

    def __repr__(self) -> str:
        return f"Block({self.fields!r})"


Part = Field | Block


@lru_cache(maxsize=WORDS)
def word(name: str, value: str | bool) -> Block:
    """A field that has one of few values, with its written form."""
    return Block(((name, value),))


class Event(NamedTuple):
    """One event of docs/events.md, complete but not yet formatted."""

    name: str
    """The RFC 5424 MSGID, e.g. ``tls_client_hello``."""
    time_ns: int
    """Wall-clock nanoseconds since the epoch, taken in the kernel at the completing packet."""
    host: str
    """The decky's name, or the host's for summaries."""
    parts: tuple[Part, ...]
    """Its fields in contract order. An unknown field is absent."""
    severity: int = INFORMATIONAL
    source: str = ""
    """The src_ip of the event: first part of the dedup key."""
    fingerprint: str | None = None
    """Last part of the dedup key; None for events that are never deduplicated."""
    label: str = ""
    """What an analyst would call it if it is suppressed as one of too many: an SNI, a service."""
    sums: FlowSums | None = None
    """Figures that a summary adds up if it is suppressed."""
    proven: bool = True
    """Nobody can have forged it blindly. Others have suppression windows of their own."""
    subject: str = ""
    """What distinguishes it from others of its name and time: its conn_id, and more if one packet
    can complete several."""
    turned: bool = False
    """A decky opened the connection, and src_ip is its peer all the same."""
    sensor: str = ""
    """Name of the agent that emits it; "" until it is emitted, as `event_id`."""
    event_id: str = ""
    """32 hexadecimal digits: see `deckwire.events.identity`."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its own fields, one by one."""
        return tuple(
            field
            for part in self.parts
            for field in (part.fields if isinstance(part, Block) else (part,))
        )

    @property
    def stamp(self) -> tuple[Field, ...]:
        """The fields at the end of every event that is emitted."""
        if not self.event_id:
            return ()
        return (("sensor", self.sensor), ("event_id", self.event_id), ("schema", SCHEMA))


class Headline(NamedTuple):
    """The part of an event that deduplication needs, made before its costly fields.

    Names are those of Event. Each event makes one, by position: names cost half as much again.
    """

    name: str
    time_ns: int
    host: str
    source: str
    fingerprint: str | None
    severity: int = INFORMATIONAL
    label: str = ""
    sums: FlowSums | None = None
    proven: bool = True

    def event(self, parts: Iterable[Part], subject: str) -> Event:
        """Make the event of this headline, its fields and its subject."""
        name, time_ns, host, source, fingerprint, severity, label, sums, proven = self
        # This makes an Event in half the time of a call, which sorts its arguments first.
        return tuple.__new__(
            Event,
            (
                name,
                time_ns,
                host,
                tuple(parts),
                severity,
                source,
                fingerprint,
                label,
                sums,
                proven,
                subject,
                False,
                "",
                "",
            ),
        )
