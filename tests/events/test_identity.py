"""Ids of events: the same for the same event, and different for different events."""

from __future__ import annotations

import re
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.event import SCHEMA, STAMP, Event
from deckwire.events.identity import Identity, check_sensor
from deckwire.limits import RECENT_EVENTS

EVENTS = st.builds(
    Event,
    name=st.sampled_from(["tls_session", "tcp_anomaly"]),
    time_ns=st.integers(0, 3),
    host=st.just("web"),
    parts=st.just((("n", 1),)),
    subject=st.sampled_from(["1:a", "1:b", "1:a x", "\udcff", ""]),
)


def event(**changes: object) -> Event:
    given_ = {"name": "tls_session", "time_ns": 5, "host": "web", "parts": (), "subject": "1:x"}
    return Event(**(given_ | changes))  # type: ignore[arg-type]


def ids(events: list[Event], sensor: str = "s") -> list[str]:
    stamped = Identity(sensor).stamped
    return [stamped(one).event_id for one in events]


def test_the_id_is_what_the_documentation_says() -> None:
    stamped = Identity("sensor-1").stamped(event())
    digest = blake2b(b"sensor-1 tls_session 5 1:x", digest_size=16).hexdigest()
    assert stamped.stamp == (("sensor", "sensor-1"), ("event_id", digest), ("schema", SCHEMA))
    assert tuple(name for name, _ in stamped.stamp) == STAMP
    assert stamped._replace(sensor="", event_id="") == event()


def test_each_part_counts_and_nothing_else() -> None:
    others = [{"name": "x"}, {"time_ns": 6}, {"subject": "1:y"}]
    assert len({ids([event()])[0], *(ids([event(**one)])[0] for one in others)}) == 4
    assert ids([event()], "t") != ids([event()])
    same = [{"host": "y"}, {"parts": (("a", 1),)}, {"fingerprint": "f"}, {"severity": 4}]
    assert {ids([event(**one)])[0] for one in same} == set(ids([event()]))


@given(st.lists(EVENTS, max_size=60))
def test_equal_events_have_different_ids_and_the_same_sequence_has_the_same(
    events: list[Event],
) -> None:
    found = ids(events)
    assert len(set(found)) == len(found)
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)
    assert ids(events) == found


def test_equal_events_differ_within_the_bound() -> None:
    between = [event(subject=str(number)) for number in range(RECENT_EVENTS - 1)]
    found = ids([event(), *between, event(), *between, event()])
    assert len(set(found)) == len(found)


def test_memory_is_bounded() -> None:
    identity = Identity("s")
    for number in range(5 * RECENT_EVENTS):
        identity.stamped(event(subject=str(number // 2)))
    assert len(identity._recent) <= RECENT_EVENTS
    assert len(identity._before) <= RECENT_EVENTS


@pytest.mark.parametrize("name", ["", "a b", "\u00e4", "a\n", "s" * 65])
def test_a_bad_sensor_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a sensor; use 1 to 64") as caught:
        check_sensor(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "s" * 64, 'honey-7.example"]'])
def test_a_good_sensor(name: str) -> None:
    assert check_sensor(name) == name
