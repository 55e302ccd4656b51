"""capture_stats: the sums by which an operator knows that nothing was lost unseen."""

from __future__ import annotations

from collections.abc import Mapping

from deckwire.events.event import Event


def stats_event(host: str, time_ns: int, sums: Mapping[str, int]) -> Event:
    """One field a counter, in the order given; docs/events.md explains each."""
    return Event(
        name="capture_stats",
        time_ns=time_ns,
        host=host,
        parts=tuple(sums.items()),
    )
