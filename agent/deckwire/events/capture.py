"""capture_stats: every counter, so that an operator can check what was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deckwire.events.event import Event, Field
from deckwire.limits import STATS_BYTES

_AROUND = len('"": , ')
"""What a format writes around a name and a number, at most."""


def stats_events(host: str, time_ns: int, sums: Mapping[str, int]) -> Iterator[Event]:
    """Make the events: one field for each counter, in the order of `sums`.

    Usually it is one event. If a line has no room for all counters, there are more. They have the
    same time, and the fields `part` and `parts`.
    """
    parts = _parts(sums)
    for number, fields in enumerate(parts, 1):
        if len(parts) > 1:
            fields += [("part", number), ("parts", len(parts))]
        yield Event(
            name="capture_stats",
            time_ns=time_ns,
            host=host,
            parts=tuple(fields),
            subject=str(number),
        )


def _parts(sums: Mapping[str, int]) -> list[list[Field]]:
    """The counters, divided so that the text of each part has at most STATS_BYTES."""
    parts: list[list[Field]] = [[]]
    room = STATS_BYTES
    for name, count in sums.items():
        size = len(name) + len(str(count)) + _AROUND
        if size > room:
            parts.append([])
            room = STATS_BYTES
        parts[-1].append((name, count))
        room -= size
    return parts
