"""Losses become few events that add up to all of them."""

from __future__ import annotations

from deckwire.events.event import WARNING
from deckwire.runtime.losses import LossReport

S = 1_000_000_000
T0 = 1_800_000_000 * S


def report_to(report: LossReport, sums: dict[str, int], at: float) -> list[tuple[object, ...]]:
    events = report.due(sums, T0 + round(at * S))
    for event in events:
        report.emitted(event)
    return [tuple(value for _, value in event.fields) for event in events]


def test_growth_is_reported_once_a_cause_and_interval_and_all_of_it() -> None:
    report = LossReport("sensor")
    assert report_to(report, {"a": 0}, 0) == []
    assert report_to(report, {"a": 3}, 1) == [("a", 3)]
    assert report_to(report, {"a": 5, "b": 1}, 2) == [("b", 1)]
    assert report_to(report, {"a": 9, "b": 1}, 10.9) == []
    assert report_to(report, {"a": 9, "b": 1}, 11) == [("a", 6)]
    assert report_to(report, {"a": 9, "b": 1}, 99) == []


def test_the_event_belongs_to_the_host_and_warns() -> None:
    (event,) = LossReport("sensor").due({"tcp_queue_full": 7}, T0)
    assert (event.name, event.host, event.severity) == ("capture_loss", "sensor", WARNING)
    assert event.fields == (("cause", "tcp_queue_full"), ("count", 7))
    assert event.fingerprint is None


def test_a_loss_that_no_output_accepted_stays_due() -> None:
    report = LossReport("sensor")
    assert report.due({"a": 3}, T0)
    assert report_to(report, {"a": 4}, 0.1) == [("a", 4)]


def test_a_clock_set_back_does_not_silence_a_cause() -> None:
    report = LossReport("sensor")
    assert report_to(report, {"a": 1}, 0) == [("a", 1)]
    assert report_to(report, {"a": 2}, -3600) == [("a", 1)]


def test_at_the_end_nothing_is_held_back() -> None:
    report = LossReport("sensor")
    (first,) = report.due({"queue_full": 5}, 0)
    report.emitted(first)
    assert report.due({"queue_full": 9}, 1_000_000_000) == []
    (last,) = report.due({"queue_full": 9}, 1_000_000_000, at_the_end=True)
    assert dict(last.fields) == {"cause": "queue_full", "count": 4}
