"""Says when a budget of the kernel side begins and ceases to cut."""

from __future__ import annotations

from collections.abc import Mapping

from deckwire.events.event import WARNING, Event

BUDGETS = {"syn_over_budget": "syn_records", "tls_not_admitted": "handshakes"}
"""Kernel counter to the budget whose cuts it counts."""


class BudgetWatch:
    """Turns growing counters into `capture_budget` events: one at each change of state."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._seen = dict.fromkeys(BUDGETS, 0)
        self._since = dict.fromkeys(BUDGETS, 0)
        self._cutting: set[str] = set()

    def changes(self, counters: Mapping[str, int], now_ns: int) -> list[Event]:
        """The events due at `now_ns`; call about once a second.

        ``state="exhausted"`` when a budget has begun to cut since the last call, ``"normal"``
        when it has cut nothing since; `suppressed` is what was cut while it was exhausted.
        """
        events: list[Event] = []
        for counter, budget in BUDGETS.items():
            cut = counters[counter] - self._seen[counter]
            self._seen[counter] = counters[counter]
            if cut and counter not in self._cutting:
                self._cutting.add(counter)
                self._since[counter] = counters[counter] - cut
                events.append(self._event(budget, "exhausted", cut, now_ns))
            elif not cut and counter in self._cutting:
                self._cutting.discard(counter)
                suppressed = counters[counter] - self._since[counter]
                events.append(self._event(budget, "normal", suppressed, now_ns))
        return events

    def _event(self, budget: str, state: str, suppressed: int, now_ns: int) -> Event:
        return Event(
            name="capture_budget",
            time_ns=now_ns,
            host=self._host,
            parts=(("budget", budget), ("state", state), ("suppressed", suppressed)),
            severity=WARNING,
        )
