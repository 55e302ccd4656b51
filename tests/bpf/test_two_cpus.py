"""Two CPUs that handle frames of one connection in the same moment."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import EndSample
from deckwire.kernel.names import JUMPS, JUMPS_MAP
from deckwire.kernel.programs import Program
from tests.support.bpf_frames import CLIENT_HELLO, TALK6, Talk
from tests.support.bpf_harness import FLOW, Kernel
from tests.support.hooks import program_by_id

pytestmark = pytest.mark.root

PENDING = 0x40
"""HANDSHAKE_PENDING: a SYN-ACK on the 4-tuple of a connection was seen."""
ROUNDS = 40
"""Connections; in about half of the rounds both CPUs do the same at once."""
OFTEN = 2_000
"""How often one CPU handles its frame, so that the other one's comes in between."""
Runs = tuple[tuple[bytes, int], tuple[bytes, int]]
"""A frame, and how often it comes, for each CPU."""


def at_once(kernel: Kernel, rounds: Callable[[int], Runs]) -> None:
    """Run what `rounds` gives for each round, on two CPUs."""
    # The harness has bound this thread to one of them.
    cpus = sorted(os.sched_getaffinity(0) | set(range(os.cpu_count() or 1)))[:2]
    if len(cpus) < 2:
        pytest.skip("one CPU")
    fd = kernel.loaded.programs["tc_ingress"].fd
    ready = Barrier(2)

    def run(number: int) -> int:
        affinity, frames = os.sched_getaffinity(0), 0
        os.sched_setaffinity(0, {cpus[number]})
        # One is for one thread: its frame and its request have one place in memory.
        program = Program("tc_ingress", os.dup(fd))
        for round_ in range(ROUNDS):
            frame, times = rounds(round_)[number]
            ready.wait()
            program.test_run(frame, tstamp=kernel.now_ns, repeat=times)
            frames += times
        program.close()
        os.sched_setaffinity(0, affinity)
        return frames

    with ThreadPoolExecutor(2) as pool:
        kernel.run += sum(pool.map(run, range(2)))


def test_one_cpu_samples_the_end_that_both_find(kernel: Kernel) -> None:
    """One accounts data of the decky while the client's RST comes on the other one."""
    kernel.settings(dedup=0, syn_cost_ns=1)
    talks = [replace(Talk(), client_port=20_000 + number) for number in range(ROUNDS)]
    for talk in talks:
        kernel.feed(*talk.opened(), talk.c("A", 1, 1), talk.s("A", 1, 1), talk.c("A", 1, 1))
    at_once(
        kernel,
        lambda round_: ((talks[round_].s("FA", 1, 1), OFTEN), (talks[round_].c("R", 1), 1)),
    )
    sampled = Counter(each.key for each in kernel.samples() if isinstance(each, EndSample))
    assert set(sampled.values()) <= {1}
    for flow in kernel.table("flows"):
        assert flow.totals.close == abi.CLOSES.index("rst")
        assert flow.totals.end_sent == sampled[flow.key], "else no sweep, or a second one, emits it"


def test_an_end_that_another_cpu_has_found_is_left_to_it(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, b"hello"))
    ((key, value),) = kernel.loaded.maps["flows"].items()
    flow = FLOW.parse(value)
    flow.totals.ends = 1
    kernel.loaded.maps["flows"].update(key, FLOW.build(flow))
    kernel.submitted()
    kernel.feed(talk.c("R", 6))
    assert kernel.submitted() == ""
    totals = kernel.flow().totals
    assert (totals.close, totals.ends, totals.end_sent) == (abi.CLOSES.index("rst"), 2, 0)


def test_a_connection_that_is_open_again_has_another_end(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.s("A", 1, 1), talk.c("R", 1))
    totals = kernel.flow().totals
    assert (totals.ends, totals.end_sent) == (1, 1)
    kernel.feed(talk.s("A", 1, 2))
    totals = kernel.flow().totals
    assert (totals.ends, totals.end_sent) == (0, 0)
    kernel.feed(talk.c("R", 2))
    ends = [each.record for each in kernel.samples() if isinstance(each, EndSample)]
    assert [sum(record.resumed) for record in ends] == [0, 1]


def test_a_handshake_that_another_cpu_has_completed_is_not_entered_again(kernel: Kernel) -> None:
    """The first data have completed it there; here comes the final ACK, of the same attempt."""
    talk = Talk()
    kernel.feed(talk.c("S"), talk.s("SA", 0, 1))
    flows = kernel.loaded.maps["flows"]
    attempts = [kernel.loaded.maps[name] for name in ("half_open", "half_open_sets")]
    before = [dict(table.items()) for table in attempts]
    kernel.feed(talk.c("PA", 1, 1, b"data"))
    assert kernel.submitted() == "syn handshake"
    ((key, value),) = flows.items()
    flow = FLOW.parse(value)
    flow.syn.ip_flags |= PENDING
    flow.totals.no_bulk = 1
    flows.update(key, FLOW.build(flow))
    for table, values in zip(attempts, before, strict=True):
        for slot, value in table.items():
            if value != values[slot]:
                table.update(slot, values[slot])
    kernel.feed(talk.c("A", 1, 1))
    assert kernel.submitted() == ""
    assert kernel.counters()["handshakes"] == 1
    side = kernel.client_side()
    assert (side.packets, side.bytes) == (3, 4), "what was accounted there is still there"


@pytest.mark.parametrize("data", [b"", b"answer"], ids=["ACK", "data"])
@pytest.mark.parametrize("known", [True, False], ids=["overwritten", "never sent"])
def test_what_another_cpu_has_overwritten_is_acknowledged_all_the_same(
    kernel: Kernel, data: bytes, *, known: bool
) -> None:
    """Two segments of the decky: the second one is accounted, then the first one's end stored."""
    talk = Talk()
    kernel.feed(*talk.opened())
    if known:
        kernel.feed(talk.s("A", 101, 1, bytes(100)))
    ((key, value),) = kernel.loaded.maps["flows"].items()
    flow = FLOW.parse(value)
    flow.totals.end[1 - flow.totals.client].sent = 5_000_000 + 101
    kernel.loaded.maps["flows"].update(key, FLOW.build(flow))
    kernel.feed(talk.c("PA" if data else "A", 1, 201, data))
    assert kernel.counters().get("refused_ack_unsent", 0) == (not known)
    assert kernel.client_side().bytes == (len(data) if known else 0)
    assert kernel.sent_by(client=False) == 5_000_000 + (201 if known else 101)


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_a_new_connection_is_found_whatever_another_cpu_writes(kernel: Kernel, talk: Talk) -> None:
    """It stores flags of the older connection that it read before the SYN-ACK came."""
    kernel.feed(*talk.opened())
    before = kernel.flow().totals.flags
    later = replace(talk, client_iss=talk.client_iss + 70_000, server_iss=77)
    kernel.feed(later.c("S"), later.s("SA", 0, 1))
    ((key, value),) = kernel.loaded.maps["flows"].items()
    flow = FLOW.parse(value)
    flow.totals.flags = before
    kernel.loaded.maps["flows"].update(key, FLOW.build(flow))
    kernel.feed(later.c("A", 1, 1))
    assert kernel.counters()["flow_reopened"] == 1
    assert kernel.flow().synack.seq == 77


@pytest.mark.parametrize("how", ["closed", "replaced"])
def test_an_end_that_was_sent_before_the_connection_was_open_again_is_not_the_last(
    kernel: Kernel, how: str
) -> None:
    """One CPU sends the end. Before it notes that, another one opens the connection again."""
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, b"hello"))
    ((key, value),) = kernel.loaded.maps["flows"].items()
    flow = FLOW.parse(value)
    flow.totals.end_sent = 1
    # Of the true end another CPU has been first, and its sample was lost.
    flow.totals.ends = 1 if how == "closed" else 0
    kernel.loaded.maps["flows"].update(key, FLOW.build(flow))
    kernel.submitted()
    if how == "closed":
        kernel.feed(talk.c("R", 6))
        assert kernel.flow().totals.end_sent == 0, "the sweep emits it"
    else:
        later = replace(talk, client_iss=talk.client_iss + 70_000, server_iss=77)
        kernel.feed(*later.opened())
        assert "end:idle" in kernel.submitted()


def test_a_frame_whose_connection_goes_while_its_hello_is_hashed_is_counted(kernel: Kernel) -> None:
    talk = Talk()
    hello = talk.c("PA", 1, 1, CLIENT_HELLO)
    kernel.feed(*talk.opened(), hello)
    ((key, _),) = kernel.loaded.maps["flows"].items()
    kernel.loaded.maps["flows"].delete(key)
    number = kernel.loaded.maps[JUMPS_MAP].lookup(abi.SLOT.pack(JUMPS.index("decky_hello")))
    assert number is not None
    program = Program("decky_hello", program_by_id(*abi.SLOT.unpack(number)))
    # What decky_packet has noted of the frame is still there.
    program.test_run(hello, tstamp=kernel.now_ns)
    program.close()
    kernel.run += 1
    assert kernel.counters()["frames_unattached"] == 1
