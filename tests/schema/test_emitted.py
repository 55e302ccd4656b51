"""Events that the real programs make are as declared, whatever the settings.

tests/corpus checks every event of all captures with the usual settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from deckwire.events.capture import stats_events
from deckwire.events.catalogue import CATALOGUE
from deckwire.events.event import Event
from deckwire.events.identity import Identity
from deckwire.runtime.budgets import BUDGETS, BudgetWatch
from deckwire.runtime.losses import LossReport
from tests.support.declared import check_declared
from tests.support.replaying import SETTINGS, ReplayLab
from tests.support.shared import CORPUS, captures, expected, needs_corpus

_EACH = 30
"""One capture in so many."""

CHOICES = {
    "suppressing": {"dedup_ttl": 300.0},
    "without JA4+": {"ja4plus": False, "raw_fingerprints": False},
    "as the old sniffer": {"compat": "decnet", "dedup_ttl": 300.0},
    "the peer is the source": {"outbound_source": "peer"},
    "sequences": {"sequences": True},
    "no decky talks to another": {"lateral": "hold"},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[ReplayLab]:
    with ReplayLab() as found:
        yield found


def ends(name: str, end: str) -> list[str]:
    streams = [one for one in expected(name)["streams"] if one["transport"] == "tcp"]
    return sorted({one[end] for one in streams})


@needs_corpus
@pytest.mark.root
@pytest.mark.parametrize("choice", CHOICES)
def test_events_are_as_declared_with_all_settings(lab: ReplayLab, choice: str) -> None:
    settings = replace(SETTINGS, **CHOICES[choice])  # type: ignore[arg-type]
    events: list[Event] = []
    for name in captures()[::_EACH]:
        for end in ("src", "dst"):
            events += lab.capture(CORPUS / "pcap" / name, ends(name, end), settings)
    assert len(events) > 50
    check_declared(events)


def stamped(events: list[Event]) -> list[Event]:
    stamp = Identity("sensor-1").stamped
    return [stamp(event) for event in events]


def test_events_of_the_capture_itself_are_as_declared() -> None:
    events = list(stats_events("host", 1, {f"counter_{n}": n for n in range(900)}))
    assert len(events) > 1
    events += stats_events("host", 2, {"frames": 1})
    events += LossReport("host").due({"rings_corrupt": 3}, 4)
    watch = BudgetWatch("host")
    for count in (1, 1):
        events += watch.changes(dict.fromkeys(BUDGETS, count), 5)
    assert {event.name for event in events} == {n for n in CATALOGUE if n.startswith("capture_")}
    check_declared(stamped(events))
