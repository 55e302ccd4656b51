"""An end that two CPUs sample, or a CPU and a sweep, gives one event."""

from __future__ import annotations

from typing import Any

from deckwire.abi import structs as abi
from deckwire.abi.hashes import flow_id
from tests.fuzz.material import KEY, flow_values
from tests.fuzz.recorder import Recorder

BORN_NS, LAST_NS = 1_000_000, 900_000_000
RST = abi.CLOSES.index("rst")
LATER_NS = LAST_NS + 60_000_000_000


def flow(**totals: Any) -> bytes:
    """A connection that a RST has ended, as the kernel's table has it."""
    value = abi.SCHEMAS["flow"].parse(flow_values()[0])
    value.totals.update({"born_ns": BORN_NS, "last_ns": LAST_NS, "close": RST, **totals})
    return abi.SCHEMAS["flow"].build(value)


def end(value: bytes) -> bytes:
    """The sample of its end."""
    flow = abi.SCHEMAS["flow"].parse(value)
    sample = abi.SCHEMAS["end_sample"].parse(bytes(abi.END_SAMPLE_BYTES))
    sample.head.update({"kind": abi.SAMPLE_END, "time_ns": LAST_NS, "born_ns": BORN_NS, "key": KEY})
    sample.totals = flow.totals
    client = flow.syn.seq, flow.synack.seq
    sample.isn = client[::-1] if flow.totals.client else client
    return abi.SCHEMAS["end_sample"].build(sample)


def ended(recorder: Recorder) -> list[str]:
    return [event.name for event in recorder.events if event.name == "tcp_flow_timing"]


def test_two_samples_of_one_end_give_one_event() -> None:
    recorder = Recorder()
    for packets in (6, 7):
        sides = abi.SCHEMAS["flow"].parse(flow()).totals.side
        sides[0].packets = packets
        recorder.take(end(flow(side=sides)))
    assert len(ended(recorder)) == 1
    assert recorder.pipeline.counts["ends_repeated"] == 1


def test_a_sweep_does_not_repeat_a_sample() -> None:
    """The entry does not show yet, or not any more, that its end was sampled."""
    recorder = Recorder()
    recorder.maps["flows"].update(flow_id(KEY, 0), flow())
    recorder.take(end(flow()))
    recorder.pipeline.sweep(LATER_NS)
    assert recorder.maps["flows"].lookup(flow_id(KEY, 0)) is None, "the sweep has ended it"
    assert len(ended(recorder)) == 1
    assert recorder.pipeline.counts["ends_repeated"] == 1


def test_a_sample_does_not_repeat_a_sweep() -> None:
    recorder = Recorder()
    recorder.maps["flows"].update(flow_id(KEY, 0), flow())
    recorder.pipeline.sweep(LATER_NS)
    recorder.take(end(flow()))
    assert len(ended(recorder)) == 1


def test_a_connection_that_was_open_again_ends_once_more() -> None:
    recorder = Recorder()
    for resumed in (0, 1, 1):
        recorder.take(end(flow(rules=bytes([0, 7 + resumed * abi.RULES_RESUMED]))))
    assert len(ended(recorder)) == 2
    assert recorder.pipeline.counts["ends_repeated"] == 1
