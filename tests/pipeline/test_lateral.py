"""Events that wait for an announcement: how long, how many, and which an announcement drops."""

from __future__ import annotations

from collections import Counter

import pytest

from deckwire.bus.messages import Announcement
from deckwire.events.event import Event
from deckwire.pipeline import lateral
from deckwire.pipeline.lateral import HOLD_NS, Act, LateralHold
from tests.support.uncontained import Uncontained

ACT = Act("web", "10.0.0.2", 22)
ANNOUNCED = Announcement(*ACT)
SECOND = 1_000_000_000


class Held:
    """A hold, and what it has emitted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.emitted: list[str] = []
        self.hold = LateralHold(
            lambda event: self.emitted.append(event.host), self.counts, Uncontained()
        )

    def take(
        self,
        name: str,
        now_s: float,
        key: bytes = b"k",
        act: Act = ACT,
        event: str = "tcp_handshake",
    ) -> None:
        """Take an event that happens now; its host is `name`."""
        now_ns = round(now_s * SECOND)
        self.hold.take(key, act, now_ns, now_ns, Event(event, 0, name, ()))

    def announce(self, now_s: float, announcement: Announcement = ANNOUNCED) -> None:
        self.hold.announce(announcement, round(now_s * SECOND))

    def due(self, now_s: float) -> list[str]:
        self.hold.release_due(round(now_s * SECOND))
        return self.emitted


@pytest.fixture
def held() -> Held:
    return Held()


def test_an_event_waits_for_fifteen_seconds(held: Held) -> None:
    held.take("a", 1)
    held.take("b", 2)
    assert held.due(15.9) == []
    assert held.due(16) == ["a"]
    assert held.due(17) == ["a", "b"]
    assert len(held.hold) == 0


@pytest.mark.parametrize("late", [0, 10, 14.9])
def test_an_announcement_drops_what_is_held_and_what_follows(held: Held, late: float) -> None:
    held.take("syn", 1, event="tcp_syn_fingerprint")
    held.take("shake", 1)
    held.due(1 + late)
    held.announce(1 + late)
    held.take("flow", 200, event="tcp_flow_timing")
    assert held.due(1_000) == []
    assert held.counts["lateral_announced"] == 3


def test_a_later_connection_on_the_same_ports_counts_again(held: Held) -> None:
    held.take("syn", 1, event="tcp_syn_fingerprint")
    held.announce(3)
    held.take("again", 60, event="tcp_syn_fingerprint")
    assert held.due(100) == ["again"]


@pytest.mark.parametrize(
    "act",
    [Act("mail", "10.0.0.2", 22), Act("web", "10.0.0.3", 22), Act("web", "10.0.0.2", 23)],
    ids=["opener", "address", "port"],
)
def test_other_connections_are_not_dropped(held: Held, act: Act) -> None:
    held.take("other", 1, act=act)
    held.announce(2)
    assert held.due(100) == ["other"]


def test_an_event_that_was_in_the_rings_is_dropped_too(held: Held) -> None:
    held.announce(5)
    held.hold.take(b"k", ACT, 5 * SECOND - 1, 6 * SECOND, Event("tcp_handshake", 0, "late", ()))
    held.take("flow", 90, event="tcp_flow_timing")
    assert held.due(200) == []


@pytest.mark.parametrize("now_s", [5.1, 1])
def test_an_announcement_covers_nothing_after_it(held: Held, now_s: float) -> None:
    """Nor what came too long before it."""
    held.announce(5 if now_s > 5 else 1 + HOLD_NS / SECOND)
    held.take("attack", now_s)
    assert held.due(100) == ["attack"]


def test_the_hold_is_bounded_and_loses_nothing(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lateral, "LATERAL_HELD", 3)
    for at in range(5):
        held.take(str(at), at)
    assert (held.emitted, len(held.hold)) == (["0", "1"], 3)
    assert held.counts["lateral_emitted_early"] == 2
    held.hold.release_all()
    assert held.emitted == list("01234")
