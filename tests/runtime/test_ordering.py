from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.runtime.ordering import Ordering


def test_a_pass_releases_what_the_pass_before_it_saw_complete() -> None:
    ordering: Ordering[str] = Ordering(margin_ns=0)
    ordering.add([(30, "c")])
    ordering.add([(10, "a")])
    assert ordering.release(20) == []
    ordering.add([(15, "b")])
    assert ordering.release(40) == ["a", "b"]
    assert ordering.release(50) == ["c"]
    assert ordering.late == 0


def test_the_margin_holds_back() -> None:
    ordering: Ordering[str] = Ordering(margin_ns=5)
    ordering.add([(14, "a")])
    ordering.add([(15, "b")])
    ordering.release(20)
    assert ordering.release(30) == ["a"]
    assert ordering.release(40) == ["b"]


def test_equal_times_keep_the_order_of_adding() -> None:
    ordering: Ordering[int] = Ordering(margin_ns=0)
    for n in range(5):
        ordering.add([(10, n)])
    ordering.release(10)
    assert ordering.release(11) == []
    ordering.add([(10, 5)])
    assert ordering.release(12) == [0, 1, 2, 3, 4, 5]


def test_late_items_are_released_and_counted() -> None:
    ordering: Ordering[str] = Ordering(margin_ns=0)
    ordering.add([(90, "new")])
    ordering.release(100)
    ordering.release(110)
    ordering.add([(50, "late")])
    ordering.add([(100, "in time")])
    assert ordering.late == 1
    assert ordering.release(120) == ["late", "in time"]


def test_flush_gives_everything() -> None:
    ordering: Ordering[int] = Ordering()
    for time in (3, 1, 2):
        ordering.add([(time, time)])
    assert len(ordering) == 3
    assert ordering.flush() == [1, 2, 3]
    assert (len(ordering), ordering.flush()) == (0, [])
    ordering.add([(2, 2)])
    assert ordering.late == 1


@pytest.mark.parametrize("starts", [(10, 5, 20, 21), (10, 10, 10)])
def test_a_clock_that_stands_or_falls_back_loses_nothing(starts: tuple[int, ...]) -> None:
    ordering: Ordering[int] = Ordering(margin_ns=0)
    released = []
    for start in starts:
        ordering.add([(start, start)])
        released += ordering.release(start)
    assert sorted(released + ordering.flush()) == sorted(starts)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("sample"), st.integers(0, 3), st.integers(0, 20)),
        st.tuples(st.just("pass"), st.just(0), st.just(0)),
    ),
    max_size=200,
)


@given(steps)
def test_samples_of_all_cpus_are_sorted_by_time(
    actions: list[tuple[str, int, int]],
) -> None:
    """A model of four CPUs: a sample is written up to `margin` after its stamp, in the order of
    its CPU's stamps; a pass takes what its rings held at its start."""
    margin = 20
    ordering: Ordering[tuple[int, int]] = Ordering(margin_ns=margin)
    rings: list[deque[tuple[int, int, int]]] = [deque() for _ in range(4)]
    now, made, released = 1_000, 0, []
    last_write = [0] * 4

    def drain(start: int) -> None:
        for ring in rings:
            while ring and ring[0][0] <= start:
                _, time, number = ring.popleft()
                ordering.add([(time, (time, number))])

    for action, cpu, delay in actions:
        now += 3
        if action == "sample":
            last_write[cpu] = max(last_write[cpu], now + delay)
            rings[cpu].append((min(last_write[cpu], now + margin), now, made))
            made += 1
        else:
            drain(now)
            released += ordering.release(now)
    now += 2 * margin
    drain(now)
    released += ordering.flush()
    assert ordering.late == 0
    assert released == sorted(released)
    assert len(released) == made
