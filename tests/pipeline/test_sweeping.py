"""Sweeps in slices, on real maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import HandshakeSample
from deckwire.pipeline.sweeping import Sweeper
from deckwire.tables.flows import FlowBatch, FlowTables
from deckwire.tables.tables import Tables
from deckwire.tcp.flow import FlowRecord
from tests.support.replaying import ReplayLab
from tests.support.uncontained import Uncontained

pytestmark = pytest.mark.root

SECOND = 1_000_000_000
NOW_NS = 1_000 * SECOND
MANY = 5_000
"""Connections: more than a batch of the kernel's table holds."""
BATCH = 1_024
ENDS = 64
"""What a slice may read and end."""


class Recorder:
    """A sweeper, and what it has ended, reported and read."""

    def __init__(self, lab: ReplayLab, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended: list[tuple[int, str]] = []
        self.made_good: list[bytes] = []
        self.read: list[int] = []
        self.counts: Counter[str] = Counter()
        states = FlowBatch.states

        def reading(batch: FlowBatch) -> list[tuple[int, int, int, int, int]]:
            self.read.append(batch.entries.size)
            return states(batch)

        monkeypatch.setattr(FlowBatch, "states", reading)
        self.sweeper = Sweeper(
            Tables(lab.loaded.maps).flows,
            self._end,
            self._handshake,
            idle_ns=120 * SECOND,
            counts=self.counts,
            containment=Uncontained(),
        )

    def _end(self, key: bytes, record: FlowRecord, close: str) -> None:
        self.ended.append((int.from_bytes(key[:4], "little"), close))

    def _handshake(self, sample: HandshakeSample) -> None:
        self.made_good.append(sample.key)

    def slices(self) -> Iterator[tuple[int, int]]:
        """Do what is left of a sweep; give what each slice has read and ended."""
        more = True
        while more:
            read, ended = len(self.read), len(self.ended)
            more = self.sweeper.go_on()
            yield sum(self.read[read:]), len(self.ended) - ended


@pytest.fixture
def recorder(lab: ReplayLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    lab.clear()
    yield Recorder(lab, monkeypatch)
    lab.clear()


def enter(
    lab: ReplayLab, numbers: range, last_ns: int, *, established_ns: int = 0, lost: bool = False
) -> None:
    """Open connections as the kernel enters them, with packets enough to be no probes."""
    schema = abi.SCHEMAS["flow"]
    value = schema.parse(bytes(schema.sizeof()))
    value.totals.last_ns = last_ns
    value.totals.established_ns = established_ns
    value.synack.ip_flags = abi.HANDSHAKE_LOST if lost else 0
    for number in numbers:
        value.totals.born_ns = 1 + number
        value.totals.source_slot = number % 100
        value.key = number.to_bytes(36, "little")
        lab.loaded.maps["flows"].update(number.to_bytes(16, "little"), schema.build(value))


def test_a_slice_reads_one_batch_or_ends_some_connections(
    lab: ReplayLab, recorder: Recorder
) -> None:
    enter(lab, range(MANY), NOW_NS - 200 * SECOND)
    recorder.sweeper.begin(NOW_NS)
    slices = list(recorder.slices())
    assert max(read for read, _ in slices) <= BATCH
    assert max(ended for _, ended in slices) <= ENDS
    assert sum(read for read, _ in slices) == len(recorder.ended) == MANY
    assert recorder.sweeper.fill == 0
    assert not recorder.sweeper.go_on(), "no sweep is under way"


def test_a_slice_of_an_eviction_is_bounded_too(
    lab: ReplayLab, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most idle connections of the source that has the most are evicted."""
    greedy, idle = range(7, 20_000, 100), range(7, 10_000, 100)
    monkeypatch.setattr(FlowTables, "crowd", lambda _tables, _flows: len(idle))
    enter(lab, range(MANY), NOW_NS - 3 * SECOND)
    enter(lab, greedy, NOW_NS - SECOND)
    enter(lab, idle, NOW_NS - 2 * SECOND)
    recorder.sweeper.begin(NOW_NS)
    slices = list(recorder.slices())
    assert max(read for read, _ in slices) <= BATCH
    assert max(ended for _, ended in slices) <= ENDS
    evicted = {number for number, _ in recorder.ended}
    assert evicted == set(idle)
    assert len(recorder.ended) == len(idle)
    assert {close for _, close in recorder.ended} == {"evicted"}


def test_connections_that_begin_between_slices_stay(lab: ReplayLab, recorder: Recorder) -> None:
    enter(lab, range(MANY), NOW_NS - 200 * SECOND)
    recorder.sweeper.begin(NOW_NS)
    for number, _ in enumerate(recorder.slices(), MANY):
        enter(lab, range(number, number + 1), NOW_NS)
    assert sorted(number for number, _ in recorder.ended) == list(range(MANY))
    left = sum(batch.size for batch in lab.loaded.maps["flows"].batches())
    assert left > MANY // ENDS


def test_the_end_of_all_comes_after_the_sweep_that_is_under_way(
    lab: ReplayLab, recorder: Recorder
) -> None:
    """It has set until when handshakes are made good, and nobody would report them later."""
    enter(lab, range(MANY), NOW_NS, established_ns=NOW_NS - 5 * SECOND, lost=True)
    recorder.sweeper.begin(NOW_NS)
    assert recorder.sweeper.go_on()
    assert 0 < len(recorder.made_good) <= BATCH
    recorder.sweeper.end_all("shutdown")
    made_good, lost = len(recorder.made_good), recorder.counts["handshakes_lost"]
    assert made_good + lost == len(set(recorder.made_good)) + lost == MANY
    assert {close for _, close in recorder.ended} == {"shutdown"}
    assert len(recorder.ended) == MANY


def test_another_sweep_does_not_begin_before_the_last_one_is_over(
    lab: ReplayLab, recorder: Recorder
) -> None:
    enter(lab, range(MANY), NOW_NS)
    recorder.sweeper.begin(NOW_NS)
    read = sum(read for read, _ in [next(recorder.slices())])
    recorder.sweeper.begin(NOW_NS + SECOND)
    read += sum(read for read, _ in recorder.slices())
    assert read == MANY


def test_a_sweep_that_fails_is_over(
    lab: ReplayLab, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("made by the test")

    enter(lab, range(MANY), NOW_NS - 200 * SECOND)
    recorder.sweeper.begin(NOW_NS)
    with monkeypatch.context() as patch:
        patch.setattr(FlowTables, "take", fail)
        with pytest.raises(ZeroDivisionError):
            recorder.sweeper.go_on()
    assert not recorder.sweeper.go_on()
    recorder.sweeper.sweep(NOW_NS)
    assert len(recorder.ended) == MANY
