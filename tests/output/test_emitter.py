"""What becomes of an event: emitted, suppressed, filtered or dropped, each of them counted."""

from __future__ import annotations

import pytest

from deckwire.events.dedup import Dedup
from deckwire.events.event import Event, Headline
from deckwire.output.emitter import Emitter
from deckwire.output.fate import Fate
from deckwire.resilience.containment import Containment
from tests.support.uncontained import Uncontained

S = 1_000_000_000
HELLO = Event("tls_client_hello", 1_000 * S, "web-1", (), source="192.0.2.9", fingerprint="a|b")


class Output:
    """Takes events while it has room and if it wants them."""

    def __init__(self) -> None:
        self.room = True
        self.wanting = True
        self.taken: list[Event] = []

    def offer(self, event: Event) -> bool:
        if self.room:
            self.taken.append(event)
        return self.room

    def wants(self, event: Event | Headline) -> bool:
        return self.wanting


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def emitter(output: Output) -> Emitter:
    return Emitter(Dedup(300), output.offer, "sensor", Uncontained(), output.wants)


def at(seconds: float) -> Event:
    return HELLO._replace(time_ns=round((1_000 + seconds) * S))


def test_fates_are_counted_and_sum_to_what_was_made(emitter: Emitter, output: Output) -> None:
    output.room = False
    fates = [emitter.emit(at(0))]
    output.room = True
    fates += [emitter.emit(at(1)), emitter.emit(at(2))]
    output.wanting = False
    fates.append(emitter.emit(at(3)._replace(fingerprint="c")))
    assert fates == [Fate.DROPPED, Fate.EMITTED, Fate.SUPPRESSED, Fate.FILTERED]
    assert set(emitter.counts.values()) == {1}
    assert emitter.made == 4
    assert [event.time_ns for event in output.taken] == [at(1).time_ns]


def test_a_dropped_event_opens_no_window(emitter: Emitter, output: Output) -> None:
    output.room = False
    emitter.emit(at(0))
    assert emitter.window(at(0)) is None
    output.room = True
    assert emitter.emit(at(1)) is Fate.EMITTED
    window = emitter.window(at(1))
    assert window is not None
    assert window[1] == 1_301 * S


def test_an_event_that_no_output_takes_is_not_made_but_opens_its_window(
    emitter: Emitter, output: Output
) -> None:
    """So the kernel side need not send its equals."""
    output.wanting = False
    headline = Headline(*(getattr(HELLO, name) for name in Headline._fields))
    assert emitter.emit_new(headline, pytest.fail) is Fate.FILTERED
    assert emitter.opened is not None
    assert emitter.opened == emitter.window(headline)
    assert emitter.emit_new(headline, pytest.fail) is Fate.SUPPRESSED
    assert output.taken == []


def test_a_window_that_is_over_is_summarised(emitter: Emitter, output: Output) -> None:
    for second in (0, 10, 20):
        emitter.emit(at(second))
    emitter.close_windows(1_299 * S)
    assert len(output.taken) == 1
    emitter.close_windows(1_300 * S)
    summary = output.taken[1]
    assert (summary.name, summary.host, summary.time_ns) == ("dedup_summary", "sensor", 1_300 * S)
    assert dict(summary.fields)["count"] == 2


def test_all_windows_are_closed_at_the_end(emitter: Emitter, output: Output) -> None:
    for second in (0, 10):
        emitter.emit(at(second))
    emitter.close_windows(1_011 * S, all_of_them=True)
    assert [event.name for event in output.taken] == ["tls_client_hello", "dedup_summary"]


def test_a_summary_that_fails_costs_no_other(output: Output) -> None:
    def offer(event: Event) -> bool:
        if event.name == "dedup_summary" and event.source == "192.0.2.1":
            raise IndexError
        return output.offer(event)

    lines: list[str] = []
    emitter = Emitter(Dedup(300), offer, "sensor", Containment(lines.append))
    for number in range(3):
        for second in (0, 10):
            emitter.emit(at(second)._replace(source=f"192.0.2.{number}"))
    emitter.close_windows(1_300 * S)
    summaries = [event.source for event in output.taken if event.name == "dedup_summary"]
    assert summaries == ["192.0.2.0", "192.0.2.2"]
    assert "failures_due: IndexError" in lines[0]


def test_what_the_kernel_suppressed_belongs_to_the_window(emitter: Emitter, output: Output) -> None:
    emitter.emit(at(0))
    opened = emitter.window(at(0))
    assert opened is not None
    window = opened[0]
    emitter.add_suppressed(window, count=7, first_ns=1_005 * S, last_ns=1_200 * S, deckies=0b1011)
    emitter.emit(at(100))
    emitter.close_windows(1_400 * S)
    fields = dict(output.taken[-1].fields)
    assert (fields["count"], fields["deckies"]) == (8, 3)
    assert str(fields["first_seen"]).endswith("00:16:45.000000+00:00")
    assert str(fields["last_seen"]).endswith("00:20:00.000000+00:00")
    assert emitter.counts[Fate.SUPPRESSED] == 1


def test_what_comes_after_a_window_has_closed_has_a_summary_of_its_own(
    emitter: Emitter, output: Output
) -> None:
    emitter.emit(at(0))
    opened = emitter.window(at(0))
    assert opened is not None
    emitter.close_windows(2_000 * S)
    emitter.add_suppressed(opened[0], count=7, first_ns=0, last_ns=0, deckies=1)
    emitter.close_windows(2_001 * S)
    assert dict(output.taken[-1].fields)["count"] == 7
    emitter.close_windows(3_000 * S, all_of_them=True)
    assert len(output.taken) == 2


def test_what_makes_room_is_summed_up(output: Output) -> None:
    emitter = Emitter(Dedup(300, entries=16), output.offer, "sensor", Uncontained())
    made = [at(0)._replace(fingerprint=str(number)) for number in range(16)]
    for event in made:
        assert emitter.emit(event) is Fate.EMITTED
        assert emitter.emit(event) is Fate.SUPPRESSED
    end_ns = emitter.crowded()
    assert end_ns == 1_300 * S
    emitter.make_room(end_ns, 1_001 * S)
    assert emitter.crowded() is None
    summaries = [dict(event.fields)["key"] for event in output.taken[16:]]
    assert summaries == ["0", "1"]


def test_every_event_has_the_sensor_and_an_id_of_its_own(output: Output) -> None:
    emitter = Emitter(Dedup(300), output.offer, "host", Uncontained(), sensor="sensor-7")
    for second in (0, 10):
        emitter.emit(at(second))
        emitter.emit(at(second)._replace(source="192.0.2.77", subject="1:other"))
    emitter.close_windows(2_000 * S)
    assert [event.name for event in output.taken] == [HELLO.name] * 2 + ["dedup_summary"] * 2
    assert {event.sensor for event in output.taken} == {"sensor-7"}
    assert len({event.event_id for event in output.taken}) == 4


def test_the_host_is_the_sensor_if_it_has_no_name(emitter: Emitter, output: Output) -> None:
    emitter.emit(at(0))
    assert output.taken[0].stamp[0] == ("sensor", "sensor")
    assert at(0).stamp == ()
