"""RFC 3339 text of wall-clock nanoseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_NS: Final = 1_000_000_000
_LAST_SECOND: Final = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def timestamp(time_ns: int) -> str:
    """UTC with microseconds and offset, as RFC 5424 section 6.2.3 allows; cut, not rounded.

    `time_ns` counts from the epoch. A capture file can claim any time. A time before the epoch
    becomes the epoch, and one after the year 9999 becomes the last second of that year.
    """
    second, rest = divmod(time_ns, _NS)
    if not 0 <= second <= _LAST_SECOND:
        second, rest = (0, 0) if second < 0 else (_LAST_SECOND, _NS - 1)
    return f"{_second(second)}.{str(rest // 1000).zfill(6)}+00:00"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
