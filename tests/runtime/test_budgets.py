"""Each change of a budget's state becomes one event."""

from __future__ import annotations

from deckwire.events.event import WARNING
from deckwire.runtime.budgets import BUDGETS, BudgetWatch


def fields(watch: BudgetWatch, syn: int, tls: int = 0) -> list[dict[str, object]]:
    counters = {**dict.fromkeys(BUDGETS, 0), "syn_over_budget": syn, "tls_not_admitted": tls}
    return [dict(event.fields) for event in watch.changes(counters, 5)]


def test_a_quiet_budget_makes_no_event() -> None:
    watch = BudgetWatch("sensor")
    assert fields(watch, 0) == []
    assert fields(watch, 0) == []


def test_each_change_of_state_makes_one_event() -> None:
    watch = BudgetWatch("sensor")
    assert fields(watch, 7) == [{"budget": "syn_records", "state": "exhausted", "suppressed": 7}]
    assert fields(watch, 1_000) == []
    assert fields(watch, 1_000) == [{"budget": "syn_records", "state": "normal", "suppressed": 993}]
    assert fields(watch, 1_000) == []
    assert fields(watch, 1_001) == [
        {"budget": "syn_records", "state": "exhausted", "suppressed": 1}
    ]


def test_sums_over_events_count_nothing_twice() -> None:
    watch = BudgetWatch("sensor")
    counts = (3, 3, 5, 9, 9, 9, 10, 10)
    made = [event for count in counts for event in fields(watch, count)]
    assert sum(int(str(event["suppressed"])) for event in made) == 10


def test_budgets_are_independent() -> None:
    watch = BudgetWatch("sensor")
    fields(watch, 3)
    events = fields(watch, 3, tls=2)
    assert {(e["budget"], e["state"]) for e in events} == {
        ("syn_records", "normal"),
        ("handshakes", "exhausted"),
    }


def test_the_event_belongs_to_the_host_and_warns() -> None:
    counters = {**dict.fromkeys(BUDGETS, 0), "syn_over_budget": 1}
    event = BudgetWatch("sensor").changes(counters, 9)[0]
    assert (event.name, event.host, event.severity) == ("capture_budget", "sensor", WARNING)
    assert event.time_ns == 9
    assert event.fingerprint is None
