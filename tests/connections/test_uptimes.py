"""The uptime of sources, by the TCP timestamps of their SYN packets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.connections.uptimes import Uptime, Uptimes
from deckwire.limits import UPTIME_SOURCES, UPTIME_STAMPS

SECOND = 1_000_000_000
SOURCE, ONE, OTHER = b"s" * 16, b"1" * 16, b"2" * 16


def seen(*stamps: tuple[float, int, bytes], source: bytes = SOURCE) -> Uptime | None:
    """What the last of some SYN packets shows: seconds, value, destination."""
    uptimes, found = Uptimes(), None
    for at, value, destination in stamps:
        found = uptimes.take(source, destination, round(at * SECOND), value & 0xFFFF_FFFF)
    return found


@pytest.mark.parametrize("rate", [1_000, 250, 100, 10])
@pytest.mark.parametrize("up", [3_600, 100])
def test_a_clock_that_two_destinations_see_is_the_uptime(rate: int, up: int) -> None:
    stamps = [(at, (up + at) * rate, (ONE, OTHER)[at % 2]) for at in (0, 1, 2, 5)]
    assert seen(*stamps) == Uptime(up + 5, rate)


def test_a_clock_that_wraps_is_one() -> None:
    stamps = [(at, 2**32 - 500 + at * 1_000, (ONE, OTHER)[at % 2]) for at in (0, 1, 2)]
    assert seen(*stamps) == Uptime(1, 1_000)


@pytest.mark.parametrize(
    "stamps",
    [
        [(0, 5_000, ONE), (1, 6_000, OTHER)],
        [(0, 5_000, ONE), (1, 6_000, ONE), (2, 7_000, ONE)],
        [(0, 5_000, ONE), (0.1, 5_100, OTHER), (0.2, 5_200, ONE)],
        [(0, 5_000, ONE), (1, 900_000, OTHER), (2, 7_000, ONE)],
        [(0, 5_000, ONE), (1, 5_300, OTHER), (2, 5_600, ONE)],
        [(0, 5_000, ONE), (1, 5_000, OTHER), (2, 5_000, ONE)],
        [(0, 0, ONE), (1, 0, OTHER), (2, 0, ONE)],
        [(0, 5_000, ONE), (700, 705_000, OTHER), (701, 706_000, ONE)],
        [(0, 7_000, ONE), (1, 6_000, OTHER), (2, 5_000, ONE)],
    ],
    ids=[
        *("two stamps", "one destination", "too short", "offsets differ", "no usual rate"),
        *("it stands", "none", "too long ago", "backwards"),
    ],
)
def test_what_is_not_plausible_is_left_out(stamps: list[tuple[float, int, bytes]]) -> None:
    assert seen(*stamps) is None


def test_sources_have_clocks_of_their_own() -> None:
    uptimes = Uptimes()
    for at in range(4):
        for number in range(3):
            found = uptimes.take(
                bytes([number]) * 16, (ONE, OTHER)[at % 2], at * SECOND, 1_000 * (number + at + 9)
            )
            assert (found is not None) == (at >= 2)
            assert found is None or found.seconds == number + at + 9


def test_memory_is_bounded() -> None:
    uptimes = Uptimes()
    for number in range(3 * UPTIME_SOURCES):
        uptimes.take((number // 2).to_bytes(16, "big"), ONE, number, number + 1)
    for number in range(100):
        uptimes.take(SOURCE, ONE, number, number + 1)
    assert len(uptimes._sources) == UPTIME_SOURCES
    assert max(map(len, uptimes._sources.values())) == UPTIME_STAMPS


@given(
    st.lists(
        st.tuples(st.integers(0, 2**63), st.integers(0, 2**32 - 1), st.sampled_from([ONE, OTHER]))
    )
)
def test_any_stamps_give_a_value(stamps: list[tuple[int, int, bytes]]) -> None:
    uptimes = Uptimes()
    for time_ns, value, destination in stamps:
        found = uptimes.take(SOURCE, destination, time_ns, value)
        assert found is None or 0 <= found.seconds < 2**32
