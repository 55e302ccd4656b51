"""What becomes of an event that was made: told, deduplicated or dropped, each counted."""

from __future__ import annotations

import pytest

from deckwire.containment import Containment
from deckwire.dedup import Dedup
from deckwire.event import Event
from deckwire.teller import Fate, Teller
from uncontained import Uncontained

S = 1_000_000_000
HELLO = Event("tls_client_hello", 1_000 * S, "web-1", (), source="192.0.2.9", fingerprint="a|b")


class Output:
    """Takes events while it has room."""

    def __init__(self) -> None:
        self.room = True
        self.taken: list[Event] = []

    def offer(self, event: Event) -> bool:
        if self.room:
            self.taken.append(event)
        return self.room


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def teller(output: Output) -> Teller:
    return Teller(Dedup(300), output.offer, "sensor", Uncontained())


def at(seconds: float) -> Event:
    return HELLO._replace(time_ns=round((1_000 + seconds) * S))


def test_fates_are_counted_and_sum_to_what_was_made(teller: Teller, output: Output) -> None:
    output.room = False
    fates = [teller.tell(at(0))]
    output.room = True
    fates += [teller.tell(at(1)), teller.tell(at(2))]
    assert fates == [Fate.DROPPED, Fate.TOLD, Fate.DEDUPLICATED]
    assert set(teller.counts.values()) == {1}
    assert teller.made == 3
    assert output.taken == [at(1)]


def test_what_was_not_taken_was_not_told(teller: Teller, output: Output) -> None:
    output.room = False
    teller.tell(at(0))
    assert teller.window(at(0)) is None
    output.room = True
    assert teller.tell(at(1)) is Fate.TOLD
    window = teller.window(at(1))
    assert window is not None
    assert window[1] == 1_301 * S


def test_a_window_that_is_over_tells_what_it_hid(teller: Teller, output: Output) -> None:
    for second in (0, 10, 20):
        teller.tell(at(second))
    teller.close_windows(1_299 * S)
    assert len(output.taken) == 1
    teller.close_windows(1_300 * S)
    summary = output.taken[1]
    assert (summary.name, summary.host, summary.time_ns) == ("dedup_summary", "sensor", 1_300 * S)
    assert dict(summary.fields)["count"] == 2


def test_all_windows_are_closed_at_the_end(teller: Teller, output: Output) -> None:
    for second in (0, 10):
        teller.tell(at(second))
    teller.close_windows(1_011 * S, all_of_them=True)
    assert [event.name for event in output.taken] == ["tls_client_hello", "dedup_summary"]


def test_a_summary_that_cannot_be_told_costs_no_other(output: Output) -> None:
    def offer(event: Event) -> bool:
        if event.name == "dedup_summary" and event.source == "192.0.2.1":
            raise IndexError
        return output.offer(event)

    lines: list[str] = []
    teller = Teller(Dedup(300), offer, "sensor", Containment(lines.append))
    for number in range(3):
        for second in (0, 10):
            teller.tell(at(second)._replace(source=f"192.0.2.{number}"))
    teller.close_windows(1_300 * S)
    summaries = [event.source for event in output.taken if event.name == "dedup_summary"]
    assert summaries == ["192.0.2.0", "192.0.2.2"]
    assert "failures_due: IndexError" in lines[0]


def test_what_the_kernel_suppressed_belongs_to_the_window(teller: Teller, output: Output) -> None:
    teller.tell(at(0))
    opened = teller.window(at(0))
    assert opened is not None
    window = opened[0]
    teller.add_suppressed(window, count=7, first_ns=1_005 * S, last_ns=1_200 * S, deckies=0b1011)
    teller.tell(at(100))
    teller.close_windows(1_400 * S)
    fields = dict(output.taken[-1].fields)
    assert (fields["count"], fields["deckies"]) == (8, 3)
    assert str(fields["first_seen"]).endswith("00:16:45.000000+00:00")
    assert str(fields["last_seen"]).endswith("00:20:00.000000+00:00")
    assert teller.counts[Fate.DEDUPLICATED] == 1


def test_what_comes_after_a_window_has_closed_has_a_summary_of_its_own(
    teller: Teller, output: Output
) -> None:
    teller.tell(at(0))
    opened = teller.window(at(0))
    assert opened is not None
    teller.close_windows(2_000 * S)
    teller.add_suppressed(opened[0], count=7, first_ns=0, last_ns=0, deckies=1)
    teller.close_windows(2_001 * S)
    assert dict(output.taken[-1].fields)["count"] == 7
    teller.close_windows(3_000 * S, all_of_them=True)
    assert len(output.taken) == 2


def test_what_makes_room_is_summed_up(output: Output) -> None:
    teller = Teller(Dedup(300, entries=16), output.offer, "sensor", Uncontained())
    made = [at(0)._replace(fingerprint=str(number)) for number in range(16)]
    for event in made:
        assert teller.tell(event) is Fate.TOLD
        assert teller.tell(event) is Fate.DEDUPLICATED
    end_ns = teller.crowded()
    assert end_ns == 1_300 * S
    teller.make_room(end_ns, 1_001 * S)
    assert teller.crowded() is None
    summaries = [dict(event.fields)["key"] for event in output.taken[16:]]
    assert summaries == ["0", "1"]
