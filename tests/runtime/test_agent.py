"""The loop of the live agent, on a clock of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deckwire.config import Settings
from deckwire.runtime import agent as module
from deckwire.runtime.agent import Agent
from deckwire.runtime.ordering import Ordering
from tests.support.uncontained import Uncontained

SLICE_SECONDS = 0.004


class Loop:
    """An agent whose parts only write down what it does: ``read`` a ring, or do a ``slice``."""

    def __init__(self, slices: int, sample_seconds: float = 0.0) -> None:
        """The sweep has so many slices; taking the samples of a pass takes so long."""
        self.now = 1_000.0
        self.done: list[str] = []
        self.waits: list[float] = []
        self.rests = 0
        self._left = slices
        self._sample_seconds = sample_seconds
        self._requests: Any = SimpleNamespace(stopping=False, reloading=False)
        sweeper = SimpleNamespace(begin=self._begin, go_on=self._slice, fill=1.0)
        rings = SimpleNamespace(wait=self._wait, drain=self._drain)
        outputs = SimpleNamespace(hold=lambda: None, flush=lambda: None, failures=dict)
        nothing = SimpleNamespace()
        parts: Any = SimpleNamespace(
            pipeline=SimpleNamespace(sweeper=sweeper, scanning=nothing, registry=()),
            containment=Uncontained(),
            intake=SimpleNamespace(decode=lambda _: None),
            ordering=Ordering[Any](),
            outputs=outputs,
            host="sensor",
            stats=SimpleNamespace(sums=dict, losses=lambda _: {}),
            tables=SimpleNamespace(counters=dict, ring_room=SimpleNamespace(note=lambda _: None)),
        )
        loaded: Any = SimpleNamespace(rings=rings, absent={}, attachments=[])
        clock: Any = SimpleNamespace(now_ns=lambda: round(self.now * 1e9))
        settings = Settings(runtime_dir=None, state_dir=None, metrics=None, stats_interval=0)
        self.agent = Agent(settings, loaded, parts, clock, None, self._requests)

    def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run the loop until the sweep is over and another pass is done."""
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        for name in ("_serve_bus", "_emit_due", "_housekeeping"):
            monkeypatch.setattr(Agent, name, lambda *_: None)
        self.agent._loop()

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def _drain(self) -> list[tuple[int, bytes]]:
        self.done.append("read")
        self.now += self._sample_seconds
        self._requests.stopping |= not self._left
        return []

    def _begin(self, _now_ns: int) -> None:
        self.done.append("begin")

    def _slice(self) -> bool:
        self.done.append("slice")
        self.now += SLICE_SECONDS
        self._left -= 1
        return self._left > 0


def longest(done: list[str]) -> int:
    """The most slices between two looks at the rings."""
    return max(part.count("slice") for part in " ".join(done).split("read"))


def test_the_rings_are_read_between_the_slices_of_a_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Loop(slices=1_000)
    loop.run(monkeypatch)
    assert loop.done.count("slice") == 1_000
    assert loop.done.count("begin") == 1
    assert longest(loop.done) == pytest.approx(module._SLICE_S / SLICE_SECONDS, abs=1)


def test_nothing_waits_for_samples_while_a_sweep_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Loop(slices=50)
    loop.run(monkeypatch)
    first = loop.waits.index(0)
    assert set(loop.waits[first:-1]) == {0}
    assert loop.waits[-1] > 0


def test_a_sweep_gets_its_share_beside_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(slices=1_000, sample_seconds=0.1)
    loop.run(monkeypatch)
    assert longest(loop.done) == pytest.approx(0.1 / SLICE_SECONDS, abs=1)
    loop = Loop(slices=1_000, sample_seconds=5.0)
    loop.run(monkeypatch)
    assert longest(loop.done) == pytest.approx(module._SLICE_MOST_S / SLICE_SECONDS, abs=1)
