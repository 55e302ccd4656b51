"""How many events there may be of scans whose sources nothing proves."""

from __future__ import annotations

_NS = 1_000_000_000


class Allowance:
    """A token bucket on the samples' clock. Half of it is kept for what is important."""

    def __init__(self, most: int, per_second: int) -> None:
        self._most = most
        self._per_second = per_second
        self._tokens = float(most)
        self._filled_ns: int | None = None

    def take(self, now_ns: int, *, important: bool) -> bool:
        """Whether one more is allowed; if so, it is taken."""
        if now_ns != self._filled_ns:
            elapsed_ns = 0 if self._filled_ns is None else max(now_ns - self._filled_ns, 0)
            gained = elapsed_ns * self._per_second / _NS
            self._tokens = min(float(self._most), self._tokens + gained)
            self._filled_ns = now_ns
        if self._tokens < 1.0 + (0.0 if important else self._most / 2):
            return False
        self._tokens -= 1.0
        return True
