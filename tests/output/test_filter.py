"""Which events an output takes."""

from __future__ import annotations

import pytest

from deckwire.events.event import WARNING, Event
from deckwire.events.names import DECNET_EVENTS, EVENTS
from deckwire.output.filter import SEVERITIES, EventFilter, check_events, check_severity


def event(name: str, severity: int = 6) -> Event:
    return Event(name, 0, "web", (), severity)


@pytest.mark.parametrize(
    ("patterns", "passing"),
    [
        (("tls_session",), {"tls_session"}),
        (("tls_*",), {"tls_client_hello", "tls_session", "tls_certificate"}),
        (("t??_session", "capture_stats"), {"tls_session", "capture_stats"}),
        (("*",), set(EVENTS)),
        (check_events(["decnet"]), set(DECNET_EVENTS)),
    ],
)
def test_a_pattern_matches_the_whole_name(patterns: tuple[str, ...], passing: set[str]) -> None:
    found = EventFilter(patterns)
    for _ in range(2):
        assert {name for name in EVENTS if found.passes(event(name))} == passing


def test_the_severity_is_compared_as_rfc_5424_numbers_it() -> None:
    found = EventFilter(min_severity=WARNING)
    assert found.passes(event("tls_session", 4))
    assert found.passes(event("tls_session", 3))
    assert not found.passes(event("tls_session", 5))
    assert not found.passes(event("tls_session"))


def test_both_conditions_must_hold() -> None:
    found = EventFilter(("capture_*",), WARNING)
    assert found.passes(event("capture_loss", 4))
    assert not found.passes(event("capture_stats", 6))
    assert not found.passes(event("tls_session", 4))


def test_a_filter_that_keeps_nothing_back_is_known() -> None:
    assert EventFilter().passes_all
    assert EventFilter(("tls_*", "*"), 7).passes_all
    assert not EventFilter(min_severity=6).passes_all
    assert not EventFilter(EVENTS).passes_all


@pytest.mark.parametrize("names", [["tls_sesion"], ["TLS_*"], ["tls_session", ""], ["xyz*"]])
def test_a_name_that_matches_no_event_is_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="matches no event; use decnet, or names") as caught:
        check_events(names)
    assert repr(names[-1]) in str(caught.value)
    assert "tcp_syn_fingerprint" in str(caught.value)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        check_events([])


def test_severities_have_names_and_numbers() -> None:
    for number, name in enumerate(SEVERITIES):
        assert check_severity(name) == check_severity(str(number)) == number
    for wrong in ("8", "", "-1", "Warning", "04", "٤"):
        with pytest.raises(ValueError, match="no severity; use emerg, "):
            check_severity(wrong)
