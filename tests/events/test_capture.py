"""capture_stats: one field a counter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.capture import stats_events
from deckwire.events.event import INFORMATIONAL
from deckwire.limits import LINE_BYTES, STATS_BYTES
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import SyslogFormat
from tests.support.event_samples import params


def test_sums_become_fields_in_their_order() -> None:
    (event,) = stats_events("sensor", 5, {"frames": 3, "samples_lost": 0})
    assert list(params(event).items()) == [("frames", "3"), ("samples_lost", "0")]
    assert (event.name, event.host, event.severity) == ("capture_stats", "sensor", INFORMATIONAL)
    assert event.fingerprint is None


@given(st.dictionaries(st.from_regex(r"[a-z_0-9]{1,60}", fullmatch=True), st.integers(0, 2**63)))
def test_any_counters_fit_and_none_is_missing_or_there_twice(sums: dict[str, int]) -> None:
    many = {f"{name}_{n}": count for n in range(20) for name, count in sums.items()}
    events = list(stats_events("h" * 64, 5, many))
    found = [field for event in events for field in event.fields]
    counters = [field for field in found if field[0] not in ("part", "parts")]
    assert counters == list(many.items())
    assert len(events) <= 1 + 2 * sum(len(n) + len(str(c)) + 6 for n, c in many.items()) // (
        STATS_BYTES
    )
    for number, event in enumerate(events, 1):
        assert event.time_ns == 5
        if len(events) > 1:
            assert event.fields[-2:] == (("part", number), ("parts", len(events)))
        stamped = event._replace(sensor="]" * 64, event_id="0f" * 16)
        for form in (JsonFormat(), SyslogFormat(), SyslogFormat(sd_id="relay@55555")):
            line = form.line(stamped)
            assert len(line) <= LINE_BYTES
            assert b' cut="true"' not in line
            assert b'"cut":' not in line
