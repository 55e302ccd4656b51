from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.timestamp import timestamp

LAST = 253_402_300_799


@pytest.mark.parametrize(
    ("time_ns", "expected"),
    [
        (0, "1970-01-01T00:00:00.000000+00:00"),
        (1_795_489_286_453_503_999, "2026-11-24T03:01:26.453503+00:00"),
        (-1, "1970-01-01T00:00:00.000000+00:00"),
        (LAST * 10**9 + 999_999_999, "9999-12-31T23:59:59.999999+00:00"),
        ((LAST + 1) * 10**9, "9999-12-31T23:59:59.999999+00:00"),
        (2**64 * 10**9, "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_known_times(time_ns: int, expected: str) -> None:
    assert timestamp(time_ns) == expected


@given(st.integers(0, LAST * 10**9))
def test_reads_back_to_the_microsecond(time_ns: int) -> None:
    read = datetime.fromisoformat(timestamp(time_ns))
    seconds = read.replace(microsecond=0).timestamp()
    assert int(seconds) * 1_000_000 + read.microsecond == time_ns // 1000
