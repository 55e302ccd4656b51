"""capture_stats: every counter, so that an operator can check what was lost."""

from __future__ import annotations

from collections.abc import Mapping

from deckwire.events.event import Event


def stats_event(host: str, time_ns: int, sums: Mapping[str, int]) -> Event:
    """Make the event: one field for each counter, in the order of `sums`."""
    return Event(
        name="capture_stats",
        time_ns=time_ns,
        host=host,
        parts=tuple(sums.items()),
    )
