"""capture_stats: one field a counter."""

from __future__ import annotations

from deckwire.events.capture import stats_event
from deckwire.events.event import INFORMATIONAL
from tests.support.event_samples import params


def test_sums_become_fields_in_their_order() -> None:
    event = stats_event("sensor", 5, {"frames": 3, "samples_lost": 0})
    assert list(params(event).items()) == [("frames", "3"), ("samples_lost", "0")]
    assert (event.name, event.host, event.severity) == ("capture_stats", "sensor", INFORMATIONAL)
    assert event.fingerprint is None
