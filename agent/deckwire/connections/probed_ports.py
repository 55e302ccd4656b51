"""What SYN scans show of deckies' TCP ports: which are open, and which are closed for good."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.limits import PROBED_PORTS
from deckwire.resilience.bounded import Bounded

_NS = 1_000_000_000
CLOSED_NS = 30 * _NS
"""A service that starts refuses connections for less time."""

Port = tuple[bytes, int]
"""Address of a decky in 16 bytes, and a TCP port."""


class _Refusing(NamedTuple):
    since_ns: int
    """When the first refusal was noticed."""
    refused_ns: int
    """When the latest one came at the earliest."""


class ProbedPorts:
    """Ports of deckies by what they answered to SYN probes. For one thread.

    The kernel's records are read again and again, so each of their answers counts once.
    """

    def __init__(self) -> None:
        self._open: Bounded[Port, int] = Bounded(PROBED_PORTS)
        """The latest first touch of a source that was answered."""
        self._refusing: Bounded[Port, _Refusing] = Bounded(PROBED_PORTS)

    def opened(self, port: Port, touched_ns: int) -> bool:
        """A port has answered a source that touched it first then; whether that is news."""
        self.answered(port)
        before = self._open.get(port)
        if before is not None and touched_ns <= before:
            return False
        self._open.put(port, touched_ns)
        return True

    def answered(self, port: Port) -> None:
        """A port has answered, so it is not closed."""
        self._refusing.pop(port, None)

    def refused(self, port: Port, refused_ns: int, now_ns: int) -> int | None:
        """A port has refused a source, not before `refused_ns`, as is noticed at `now_ns`.

        Records may be read late, so the time between two refusals is the least that it can be.

        Returns:
            for how many nanoseconds it has refused everybody, if this refusal is news and that is
            long enough.
        """
        before = self._refusing.get(port)
        if before is not None and refused_ns <= before.refused_ns:
            return None
        since_ns = now_ns if before is None else before.since_ns
        self._refusing.put(port, _Refusing(since_ns, refused_ns))
        return refused_ns - since_ns if refused_ns - since_ns >= CLOSED_NS else None
