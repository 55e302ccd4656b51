"""Helpers that select events which a replay emitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deckwire.events.event import Event


def of(events: Iterable[Event], name: str) -> list[dict[str, Any]]:
    """The fields of every event of one name, and `host` and `time_ns`."""
    return [
        {**dict(event.fields), "host": event.host, "time_ns": event.time_ns}
        for event in events
        if event.name == name
    ]


def one(events: Iterable[Event], name: str) -> dict[str, Any]:
    """The fields of the only event of a name."""
    (fields,) = of(events, name)
    return fields


def names(events: Iterable[Event]) -> list[str]:
    return [event.name for event in events]
