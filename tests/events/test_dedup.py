from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events import dedup as dedup_module
from deckwire.events.dedup import Dedup
from deckwire.events.event import Event
from deckwire.limits import DEDUP_KEY, DEDUP_KEY_SLOTS, DEDUP_LABEL, DEDUP_LABELS
from deckwire.output.syslog import SyslogFormat
from deckwire.tcp.flow import FlowSums

S = 1_000_000_000
T0 = 1_800_000_000 * S


def event(
    at: float = 0.0,
    fingerprint: str | None = "ja3|ja4",
    host: str = "decky-01",
    source: str = "192.0.2.1",
    name: str = "tls_client_hello",
    label: str = "",
    sums: FlowSums | None = None,
) -> Event:
    return Event(
        name,
        T0 + round(at * S),
        host,
        (),
        source=source,
        fingerprint=fingerprint,
        label=label,
        sums=sums,
    )


def emit(dedup: Dedup, new: Event) -> bool:
    """Do what the agent does when its outputs accept everything; whether the event is emitted."""
    if not dedup.admit(new):
        return False
    dedup.emitted(new)
    return True


def test_the_window_begins_at_the_first_event_and_is_not_renewed() -> None:
    dedup = Dedup(ttl_s=300)
    assert [emit(dedup, event(at)) for at in (0, 1, 299.9, 300, 301)] == [1, 0, 0, 1, 0]
    assert dedup.counters.suppressed == 3


def test_each_part_of_the_key_counts_and_the_decky_does_not() -> None:
    dedup = Dedup()
    assert emit(dedup, event())
    assert emit(dedup, event(source="192.0.2.2"))
    assert emit(dedup, event(name="tls_session"))
    assert emit(dedup, event(fingerprint="other"))
    assert not emit(dedup, event(host="decky-02"))


def test_an_event_that_no_output_took_opens_no_window() -> None:
    dedup = Dedup()
    assert dedup.admit(event())
    assert dedup.window(event()) is None
    assert dedup.admit(event(1))
    dedup.emitted(event(1))
    found = dedup.window(event())
    assert found is not None
    assert found[1] == T0 + 301 * S
    assert not dedup.admit(event(2))


def test_zero_turns_it_off_and_events_without_fingerprint_pass() -> None:
    off = Dedup(ttl_s=0)
    assert [emit(off, event()) for _ in range(3)] == [True] * 3
    on = Dedup()
    assert [emit(on, event(fingerprint=None)) for _ in range(3)] == [True] * 3
    assert len(off) == len(on) == 0


def test_the_summary_reports_what_was_suppressed() -> None:
    dedup = Dedup(ttl_s=300)
    emit(dedup, event(0, host="emitted-only"))
    for at, host in ((10, "decky-02"), (5, "decky-03"), (20, "decky-02")):
        assert not emit(dedup, event(at, host=host))
    assert list(dedup.expired(T0 + 300 * S - 1)) == []
    (summary,) = dedup.expired(T0 + 300 * S)
    assert len(dedup) == 0
    line = SyslogFormat().line(summary.emitted("sensor", T0 + 301 * S))
    assert line == (
        b"<134>1 2027-01-15T08:05:01.000000+00:00 sensor sniffer - dedup_summary [decnet@55555"
        b' event="tls_client_hello" src_ip="192.0.2.1" key="ja3|ja4" count="3" deckies="2"'
        b' first_seen="2027-01-15T08:00:05.000000+00:00"'
        b' last_seen="2027-01-15T08:00:20.000000+00:00"]'
    )
    assert summary.emitted("sensor", T0).fingerprint is None


def test_a_window_that_suppressed_nothing_has_no_summary() -> None:
    dedup = Dedup()
    emit(dedup, event())
    assert list(dedup.expired(T0 + 1000 * S)) == []


def test_an_event_behind_the_window_ends_it_and_its_summary_is_kept() -> None:
    dedup = Dedup(ttl_s=300)
    for at in (0, 1, 400, 401, 402):
        emit(dedup, event(at))
    assert [summary.count for summary in dedup.expired(T0 + 403 * S)] == [1]
    assert [summary.count for summary in dedup.close()] == [2]


def test_close_tells_open_windows() -> None:
    dedup = Dedup()
    for fingerprint in ("a", "a", "b", "c", "c", "c"):
        emit(dedup, event(fingerprint=fingerprint))
    assert [(s.key, s.count) for s in dedup.close()] == [("a", 1), ("c", 2)]
    assert list(dedup.close()) == []


def test_the_oldest_window_that_suppressed_nothing_makes_room() -> None:
    dedup = Dedup(entries=3)
    for at, fingerprint in enumerate("aabcd"):
        emit(dedup, event(at, fingerprint))
    assert len(dedup) == 3
    assert dedup.counters.evicted == 1
    assert list(dedup.expired(T0 + 5 * S)) == []
    assert not emit(dedup, event(6, "a"))
    assert emit(dedup, event(6, "b"))


def test_a_flood_of_one_event_a_source_leaves_windows_that_suppress() -> None:
    dedup = Dedup(entries=100)
    for _ in range(2):
        for number in range(50):
            emit(dedup, event(0, "again", source=f"192.0.2.{number}"))
    for number in range(1_000):
        assert emit(dedup, event(number / 10, source=f"198.51.100.{number}"))
    assert len(dedup) == 100
    assert dedup.counters.evicted == 950
    assert not any(emit(dedup, event(200, "again", source=f"192.0.2.{n}")) for n in range(50))
    assert [s.count for s in dedup.expired(T0 + 300 * S)] == 50 * [2]


def test_windows_that_suppress_are_half_of_all_and_the_oldest_of_them_is_summed_up() -> None:
    dedup = Dedup(entries=100, keys=0)
    for number in range(120):
        for _ in range(2):
            emit(dedup, event(number / 10, str(number)))
    assert len(dedup) == 100
    assert dedup.counters.evicted == 20
    assert [s.key for s in dedup.expired(T0 + 20 * S)] == [str(number) for number in range(20)]


def test_room_is_made_before_the_bounds_are_reached() -> None:
    """The agent must learn what the kernel suppressed before a window is evicted."""
    dedup = Dedup(entries=160, keys=0)
    for number in range(150):
        emit(dedup, event(number, str(number)))
    assert dedup.crowded() is None
    emit(dedup, event(150, "150"))
    end_ns = dedup.crowded()
    assert end_ns == T0 + (150 // 8 + 300) * S
    opened = dedup.window(event(0, "0"))
    assert opened is not None
    dedup.add_suppressed(opened[0], count=3, first_ns=T0, last_ns=T0 + S, deckies=0b11)
    assert list(dedup.make_room(end_ns)) == []
    assert len(dedup) == 140
    assert dedup.counters.evicted == 11
    assert dedup.crowded() is None
    assert not dedup.admit(event(151, "0"))
    assert dedup.admit(event(151, "1"))
    assert not dedup.admit(event(151, "12"))


def test_late_suppressions_get_another_summary() -> None:
    dedup = Dedup(entries=1)
    emit(dedup, event(0, "a"))
    opened = dedup.window(event(0, "a"))
    assert opened is not None
    emit(dedup, event(1, "b"))
    dedup.add_suppressed(opened[0], count=7, first_ns=T0 + S, last_ns=T0 + 2 * S, deckies=0b101)
    (summary,) = dedup.expired(T0 + 3 * S)
    assert (summary.source, summary.event, summary.key) == ("192.0.2.1", "tls_client_hello", "a")
    assert (summary.count, summary.deckies) == (7, 2)
    assert (summary.first_seen_ns, summary.last_seen_ns) == (T0 + S, T0 + 2 * S)


_LONGEST = {
    "SYNs of IPv4": lambda n: event(0, "linux|M,S,T,N,W", source=f"10.0.{n >> 8}.{n & 255}"),
    "IPv6 and long keys": lambda n: event(
        0, f"{n:0{DEDUP_KEY}}", source=f"2001:db8:ffff:ffff:ffff:ffff:{n >> 8:x}:{n & 255:x}"
    ),
    "long keys beyond the Basic Multilingual Plane": lambda n: event(
        0, f"{n}" + 300 * "\U0001f600"
    ),
}


@pytest.mark.parametrize("kind", _LONGEST)
@pytest.mark.parametrize("deckies", [0, 1, 3])
def test_memory_stays_within_the_bound(kind: str, deckies: int) -> None:
    """Windows with keys of any length, each of which suppresses events on so many deckies."""
    make = _LONGEST[kind]
    hosts = [f"decky-{n}" for n in range(deckies)]
    held = 1_048_576
    made = [make(n) for n in range(6_000)]
    tracemalloc.start()
    try:
        dedup = Dedup(held=held, hosts=2_000, keys=0)
        for number, opened in enumerate(made):
            assert emit(dedup, opened._replace(time_ns=T0 + number))
            for host in hosts:
                assert not emit(dedup, opened._replace(host=host))
            assert dedup.held <= held
            if number % 100 == 0:
                list(dedup.expired(T0))
        list(dedup.expired(T0))
        of_dedup = [tracemalloc.Filter(True, file) for file in (dedup_module.__file__, __file__)]
        traces = tracemalloc.take_snapshot().filter_traces(of_dedup)
        used = sum(trace.size for trace in traces.traces)
    finally:
        tracemalloc.stop()
    assert dedup.counters.evicted
    # A decky beyond the first takes its share of a set.
    used -= 2 * DEDUP_KEY_SLOTS
    assert 0.5 * held < used < 1.1 * held + 2_000 * 150 * (deckies > 1)


def test_summaries_that_nobody_takes_do_not_pile_up() -> None:
    dedup = Dedup(entries=2, summaries=2)
    for number in range(10):
        emit(dedup, event(fingerprint=str(number)))
        emit(dedup, event(fingerprint=str(number)))
    assert dedup.counters.evicted == 8
    assert dedup.counters.summaries_lost == 6
    assert [s.key for s in dedup.expired(T0)] == ["0", "1"]


def test_the_first_decky_of_a_window_is_counted_whatever_the_bound() -> None:
    dedup = Dedup(hosts=0)
    for number in range(3):
        emit(dedup, event(host=f"decky-{number}"))
    (summary,) = dedup.expired(T0 + 300 * S)
    assert dict(summary.emitted("host", T0).fields)["deckies"] == 1
    assert dedup.counters.hosts_ignored == 1


def test_remembered_deckies_are_bounded_and_given_back() -> None:
    dedup = Dedup(hosts=5)
    emit(dedup, event())
    for number in range(8):
        emit(dedup, event(host=f"decky-{number}"))
    assert dedup.counters.hosts_ignored == 3
    (summary,) = dedup.expired(T0 + 300 * S)
    assert (summary.count, summary.deckies) == (8, 5)
    assert ("deckies", 5) in summary.emitted("host", T0).fields
    emit(dedup, event(400))
    for number in range(5):
        emit(dedup, event(400, host=f"decky-{number}"))
    assert dedup.counters.hosts_ignored == 3


def test_a_clock_set_back_does_not_silence_a_source() -> None:
    dedup = Dedup(ttl_s=300)
    assert emit(dedup, event(0))
    assert not emit(dedup, event(-299))
    assert emit(dedup, event(-3600))
    assert not emit(dedup, event(-3599))
    emit(dedup, event(0, "late"))
    list(dedup.expired(T0 - 3000 * S))
    assert len(dedup) == 0


def test_a_long_fingerprint_is_kept_short_and_stays_distinct() -> None:
    dedup = Dedup()
    long = "CN=" + "x" * 60_000 + "\udcff"
    assert emit(dedup, event(fingerprint=long + "a"))
    assert emit(dedup, event(fingerprint=long + "b"))
    assert not emit(dedup, event(fingerprint=long + "b"))
    (summary,) = dedup.close()
    assert len(summary.key) == DEDUP_KEY
    assert summary.key.startswith("CN=xxx")


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from("abcdef"), st.booleans(), st.booleans()),
        max_size=80,
    )
)
def test_every_event_is_emitted_refused_or_suppressed_and_summed_up(
    steps: list[tuple[float, str, bool, bool]],
) -> None:
    dedup = Dedup(ttl_s=10, entries=4)
    emitted = refused = summed = 0
    opened: dict[str, float] = {}
    now = 0.0
    for wait, fingerprint, accepted, sweep in steps:
        now += wait
        made = event(now, fingerprint)
        if not dedup.admit(made):
            assert now - opened[fingerprint] < 10.001
        elif accepted:
            dedup.emitted(made)
            opened[fingerprint] = now
            emitted += 1
        else:
            refused += 1
        assert len(dedup) <= 4
        if sweep:
            summed += sum(s.count for s in dedup.expired(made.time_ns))
    summed += sum(s.count for s in dedup.close())
    assert dedup.counters.summaries_lost or summed == dedup.counters.suppressed
    assert emitted + refused + dedup.counters.suppressed == len(steps)


# --- many keys of one source ---


def new_keys(dedup: Dedup, count: int, at: float = 0.0, step: float = 0.0) -> list[bool]:
    """Events with new keys of one source, each so many seconds after the last."""
    return [
        emit(dedup, event(at + number * step, f"new {at} {number}", label=f"{number}.example"))
        for number in range(count)
    ]


def test_a_source_has_a_bound_of_keys_and_one_new_key_a_second_beyond_it() -> None:
    dedup = Dedup(keys=64)
    assert all(new_keys(dedup, 64))
    assert new_keys(dedup, 5, 1) == [True, False, False, False, False]
    assert new_keys(dedup, 20, 2, 0.25) == 5 * [True, False, False, False]
    assert dedup.counters.suppressed == 4 + 15


def test_times_out_of_order_lift_no_bound() -> None:
    """Connections end in any order, and a ClientHello without an answer is emitted at the end."""
    dedup = Dedup(keys=2)
    new_keys(dedup, 2)
    times = (1.9, 0.1, 1.8, 0.2, 1.7, 0.3)
    assert [emit(dedup, event(at, f"late {at}")) for at in times] == [1, 0, 0, 0, 0, 0]


def test_repeats_of_keys_within_the_bound_are_suppressed_by_their_own_windows() -> None:
    dedup = Dedup(keys=2)
    for fingerprint in ("a", "b", "c", "d"):
        emit(dedup, event(fingerprint=fingerprint))
    for fingerprint in ("a", "c"):  # c is the one beyond the bound that was emitted
        assert not emit(dedup, event(0.5, fingerprint))
    assert {s.key: s.count for s in dedup.close()} == {"a": 1, "c": 1, "*": 1}


def test_others_are_not_affected() -> None:
    dedup = Dedup(keys=3)
    new_keys(dedup, 10)
    assert emit(dedup, event(source="192.0.2.2"))
    assert emit(dedup, event(name="tls_session"))


def test_the_summary_of_the_rest_names_the_first_of_them() -> None:
    dedup = Dedup(keys=1)
    new_keys(dedup, 2)
    for number in range(100):
        assert not emit(dedup, event(0.5, f"x{number}", label=f"{number}.example"))
        assert not emit(dedup, event(0.5, f"x{number}", label=f"{number}.example"))
    (summary,) = dedup.close()
    assert (summary.key, summary.count) == ("*", 200)
    fields = dict(summary.emitted("sensor", T0).fields)
    assert fields["names"] == tuple(f"{number}.example" for number in range(DEDUP_LABELS))


def test_names_are_cut_and_memory_is_given_back() -> None:
    dedup = Dedup(keys=1)
    new_keys(dedup, 2)
    for number in range(100):
        emit(dedup, event(0.5, f"x{number}", label=f"{number}" + 10_000 * "x"))
    held = dedup.held
    (summary,) = dedup.close()
    assert {len(label) for label in summary.labels} == {DEDUP_LABEL}
    assert held > DEDUP_LABELS * DEDUP_LABEL
    assert dedup.held == 0


def test_the_bound_begins_anew_with_the_next_window() -> None:
    dedup = Dedup(ttl_s=10, keys=3)
    assert sum(new_keys(dedup, 10)) == 4
    assert sum(new_keys(dedup, 10, 10)) == 4
    assert [s.count for s in dedup.expired(T0 + 10 * S)] == [6]
    list(dedup.expired(T0 + 21 * S))
    assert sum(new_keys(dedup, 10, 21)) == 4


def test_a_rest_that_suppressed_nothing_has_no_summary() -> None:
    dedup = Dedup(keys=1)
    assert new_keys(dedup, 3, step=1.0) == [True] * 3
    assert list(dedup.close()) == []


def test_without_a_bound_every_key_is_emitted() -> None:
    assert all(new_keys(Dedup(keys=0), 1_000))


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 20), st.booleans()), max_size=120))
def test_nothing_is_lost_beyond_the_bound(steps: list[tuple[float, int, bool]]) -> None:
    """Each event is emitted or in a summary, and no second without new keys passes unheard."""
    dedup = Dedup(ttl_s=10, keys=2, entries=8)
    emitted = summed = 0
    now = 0.0
    for wait, key, sweep in steps:
        now += wait
        emitted += emit(dedup, event(now, str(key)))
        if sweep:
            summed += sum(s.count for s in dedup.expired(T0 + round(now * S)))
    summed += sum(s.count for s in dedup.close())
    assert summed == dedup.counters.suppressed
    assert emitted + summed == len(steps)
    assert dedup.held == 0
    assert len(dedup) == 0


# --- figures of flows ---


def test_the_summary_of_flows_has_their_figures() -> None:
    """10 bytes first and 200 MB later must not be invisible."""
    dedup = Dedup()
    flow = event(name="tcp_flow_timing", sums=FlowSums(4, 10, 1_000_000, 10))
    emit(dedup, flow)
    emit(dedup, flow._replace(sums=FlowSums(150_000, 200_000_000, 61 * S, 200_000_000)))
    emit(dedup, flow)
    window = dedup.window(flow)
    assert window is not None
    sums = FlowSums(8, 300, None, 200)
    dedup.add_suppressed(window[0], count=2, first_ns=T0, last_ns=T0, deckies=1, sums=sums)
    (summary,) = dedup.close()
    fields = dict(summary.emitted("sensor", T0).fields)
    assert fields["count"] == 4
    figures = {name: fields[name] for name in ("packets", "bytes", "longest_s", "largest_bytes")}
    assert figures == {
        "packets": 150_012,
        "bytes": 200_000_310,
        "longest_s": 61.0,
        "largest_bytes": 200_000_000,
    }


def test_other_summaries_have_no_figures() -> None:
    dedup = Dedup()
    emit(dedup, event())
    emit(dedup, event())
    (summary,) = dedup.close()
    assert "bytes" not in dict(summary.emitted("sensor", T0).fields)


# --- what anybody can have forged ---


def test_what_anybody_can_forge_suppresses_nothing_else() -> None:
    dedup = Dedup(keys=2)
    forged = event()._replace(proven=False)
    assert emit(dedup, forged)
    assert not emit(dedup, forged)
    assert emit(dedup, event())
    for number in range(10):
        emit(dedup, event(fingerprint=f"forged {number}")._replace(proven=False))
    assert emit(dedup, event(fingerprint="honest"))


def test_the_summary_says_what_anybody_can_have_forged() -> None:
    dedup = Dedup()
    for _ in range(2):
        emit(dedup, event()._replace(proven=False))
        emit(dedup, event())
    forged, honest = (dict(s.emitted("sensor", T0).fields) for s in dedup.close())
    assert forged["event"] == honest["event"] == "tls_client_hello"
    assert forged["handshake"] == "unseen"
    assert "handshake" not in honest
