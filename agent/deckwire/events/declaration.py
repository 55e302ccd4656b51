"""How the catalogue declares an event and its fields."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Type(StrEnum):
    """The type of a value in JSON. Syslog writes all of them as text."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LIST = "list"
    """Of texts; syslog joins them with commas."""
    INTEGER_OR_EMPTY = "integer or empty"
    """A number that may be missing, in a field that is always there."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One field of one event."""

    name: str
    type: Type
    meaning: str
    """For docs/events.md, in its Markdown."""
    ecs: str
    """Its name in Elastic Common Schema, or one that begins with ``deckwire.``."""
    unit: str = ""
    optional: bool = False
    """It is left out if its value is unknown. Others are always there, even if empty."""
    values: tuple[str, ...] = ()
    """All values that it can have, if they are few."""
    since: int = 1
    """The schema version that it came with."""


@dataclass(frozen=True, slots=True)
class DeclaredEvent:
    """One event: its fields in their order, without those of every event."""

    name: str
    fields: tuple[Declared, ...]
    severities: tuple[int, ...]
    """Of RFC 5424, 6.2.1."""
    kinds: tuple[str, ...]
    """Its event.type in Elastic Common Schema."""
    has_counters: bool = False
    """It also has a field for each counter, an integer."""

    @property
    def of_connection(self) -> bool:
        """Whether it is about a connection, or about a packet."""
        return any(one.name == "direction" for one in self.fields)
