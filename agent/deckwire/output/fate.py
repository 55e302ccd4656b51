"""What can become of an event."""

from __future__ import annotations

from enum import StrEnum


class Fate(StrEnum):
    """What became of an event: events made = emitted + suppressed + filtered + dropped."""

    EMITTED = "emitted"
    """At least one output accepted it."""
    SUPPRESSED = "suppressed"
    """An equal event was emitted within its dedup window."""
    FILTERED = "filtered"
    """No output takes such events. It opens a dedup window as if it had been emitted."""
    DROPPED = "dropped"
    """No output had room."""
