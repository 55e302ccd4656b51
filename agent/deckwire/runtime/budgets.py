"""capture_budget: a budget of the kernel side is exhausted, or is normal again."""

from __future__ import annotations

from collections.abc import Mapping

from deckwire.events.event import WARNING, Event

BUDGETS = {
    "syn_over_budget": "syn_records",
    "tls_not_admitted": "handshakes",
    "fragments_over_budget": "fragments",
    "midstream_over_budget": "midstream",
    "anomalies_over_budget": "anomalies",
}
"""The name of a budget, by the kernel counter of what exceeds it."""


class BudgetWatch:
    """Makes a `capture_budget` event whenever a budget's counter starts or stops growing."""

    def __init__(self, host: str) -> None:
        """`host` is the HOSTNAME of the events."""
        self._host = host
        self._seen = dict.fromkeys(BUDGETS, 0)
        """Each counter at the last call."""
        self._reported = dict.fromkeys(BUDGETS, 0)
        """Each counter at the last event that it was exhausted."""
        self._exhausted: set[str] = set()

    def changes(self, counters: Mapping[str, int], now_ns: int) -> list[Event]:
        """The events due at `now_ns`; call it about once a second.

        `state` is ``exhausted`` if the budget suppressed something since the last call and did not
        before. It is ``normal`` if it suppressed nothing since then. `suppressed` counts since the
        last event of the budget, so that sums count nothing twice.
        """
        events: list[Event] = []
        for counter, budget in BUDGETS.items():
            count = counters[counter]
            grown = count - self._seen[counter]
            self._seen[counter] = count
            if grown and counter not in self._exhausted:
                self._exhausted.add(counter)
                self._reported[counter] = count
                events.append(self._event(budget, "exhausted", grown, now_ns))
            elif not grown and counter in self._exhausted:
                self._exhausted.discard(counter)
                suppressed = count - self._reported[counter]
                events.append(self._event(budget, "normal", suppressed, now_ns))
        return events

    def _event(self, budget: str, state: str, suppressed: int, now_ns: int) -> Event:
        return Event(
            name="capture_budget",
            time_ns=now_ns,
            host=self._host,
            parts=(("budget", budget), ("state", state), ("suppressed", suppressed)),
            severity=WARNING,
            subject=f"{budget} {state}",
        )
