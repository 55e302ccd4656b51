"""Which events an output takes."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from deckwire.errors import shown
from deckwire.events.event import Event, Headline
from deckwire.events.names import DECNET_EVENTS, EVENTS

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""Severities 0 to 7 of RFC 5424, 6.2.1, by rsyslog's names."""
DECNET = "decnet"
"""Name of the set DECNET_EVENTS."""

_ALL = ("*",)
_LEAST = len(SEVERITIES) - 1


class EventFilter:
    """An event passes if a pattern matches its name and if it is severe enough."""

    def __init__(
        self, patterns: tuple[str, ...] | None = None, min_severity: int | None = None
    ) -> None:
        """`patterns` are names with ``*`` and ``?``; `min_severity` is 0 (emerg) to 7 (debug).

        None lets every event pass.
        """
        self._patterns = _ALL if patterns is None else patterns
        self._min_severity = _LEAST if min_severity is None else min_severity
        self._known: dict[tuple[str, int], bool] = {}
        """The decision for each name and severity. Both come from the code, so this is small."""

    @property
    def passes_all(self) -> bool:
        """Whether every event passes."""
        return self._min_severity == _LEAST and "*" in self._patterns

    def passes(self, event: Event | Headline) -> bool:
        """Whether the output takes the event."""
        key = event.name, event.severity
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = event.severity <= self._min_severity and any(
                fnmatchcase(event.name, pattern) for pattern in self._patterns
            )
        return known


def check_events(names: Iterable[str]) -> tuple[str, ...]:
    """The patterns of an allow list; ValueError for one that no event can match.

    A name may contain ``*`` for any characters and ``?`` for one. The name of a set, ``decnet``,
    stands for its events.
    """
    patterns: list[str] = []
    for name in names:
        if name == DECNET:
            patterns += DECNET_EVENTS
        elif any(fnmatchcase(event, name) for event in EVENTS):
            patterns.append(name)
        else:
            raise ValueError(
                f"events: {shown(name)} matches no event; use {DECNET}, or names with * and ? of"
                f" {', '.join(EVENTS)}"
            )
    if not patterns:
        raise ValueError("events: the list is empty; name events, or leave the setting out")
    return tuple(patterns)


def check_severity(text: str) -> int:
    """The number of a severity that is given by its name or number; else ValueError."""
    if text in SEVERITIES:
        return SEVERITIES.index(text)
    if len(text) == 1 and text in "01234567":
        return int(text)
    raise ValueError(
        f"min_severity: {shown(text)} is no severity; use {', '.join(SEVERITIES)} or 0 to 7"
    )
