"""Events of connections between deckies, held until it is known whether DECNET made them itself.

DECNET's orchestrator lets deckies talk to each other, and announces each act on the bus after it.
A connection that was announced is no attack, so none of its events is emitted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from deckwire.bus.messages import Announcement
from deckwire.events.event import Event
from deckwire.limits import LATERAL_ANNOUNCED, LATERAL_ANNOUNCEMENTS, LATERAL_HELD
from deckwire.resilience.bounded import Bounded
from deckwire.resilience.containment import Containment, Where

HOLD_NS = 15_000_000_000
"""How long an event is held. An announcement comes up to 10 s after its act."""


class Act(NamedTuple):
    """A connection as an announcement describes it."""

    opener: str
    """Name of the decky that opened it."""
    address: str
    """Address of the decky that was addressed, as text."""
    port: int


class _Held(NamedTuple):
    time_ns: int
    """Kernel time at which the event was made."""
    key: bytes
    act: Act
    event: Event


class LateralHold:
    """Holds events for HOLD_NS, LATERAL_HELD at most. For one thread.

    Times are those of the samples' clock.
    """

    def __init__(
        self, emit: Callable[[Event], object], counts: Counter[str], containment: Containment
    ) -> None:
        self._emit = emit
        self._counts = counts
        self._containment = containment
        self._held: deque[_Held] = deque()
        self._announced: Bounded[bytes, int] = Bounded(LATERAL_ANNOUNCED)
        """Connections that were announced, by flow key, with the time of the announcement."""
        self._announcements: deque[tuple[int, Act]] = deque(maxlen=LATERAL_ANNOUNCEMENTS)
        """The latest announcements: events of their connections may still be in the rings."""

    def __len__(self) -> int:
        return len(self._held)

    def take(self, key: bytes, act: Act, time_ns: int, now_ns: int, event: Event) -> None:
        """Hold an event, or drop it if its connection was announced.

        `time_ns` is the time of the packet that completed it.
        """
        if self._was_announced(key, act, time_ns, event.name):
            self._counts["lateral_announced"] += 1
            return
        if len(self._held) >= LATERAL_HELD:
            self._counts["lateral_emitted_early"] += 1
            self._release()
        self._counts["lateral_held"] += 1
        self._held.append(_Held(now_ns, key, act, event))

    def announce(self, announcement: Announcement, now_ns: int) -> None:
        """Drop what is held of the connections that were announced at `now_ns`."""
        self._counts["lateral_announcements"] += 1
        act = Act(announcement.decky, announcement.address, announcement.port)
        self._announcements.append((now_ns, act))
        kept: deque[_Held] = deque()
        for held in self._held:
            if held.act == act:
                self._announced.put(held.key, now_ns)
                self._counts["lateral_announced"] += 1
            else:
                kept.append(held)
        self._held = kept

    def release_due(self, now_ns: int) -> None:
        """Emit the events that were held for long enough."""
        while self._held and now_ns - self._held[0].time_ns >= HOLD_NS:
            self._release()

    def release_all(self) -> None:
        """Emit everything, at the end."""
        while self._held:
            self._release()

    def _release(self) -> None:
        event = self._held.popleft().event
        with self._containment.during(Where.DUE):
            self._emit(event)

    def _was_announced(self, key: bytes, act: Act, time_ns: int, name: str) -> bool:
        announced_ns = self._announced.get(key)
        if announced_ns is not None:
            if name == "tcp_syn_fingerprint" and time_ns > announced_ns:
                # Another connection on the same 4-tuple.
                self._announced.pop(key, None)
                return False
            return True
        for announced_ns, announced in self._announcements:
            if announced == act and 0 <= announced_ns - time_ns < HOLD_NS:
                self._announced.put(key, announced_ns)
                return True
        return False
