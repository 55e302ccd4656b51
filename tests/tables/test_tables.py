"""The kernel's maps as the agent uses them, on real maps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.abi import structs as abi
from deckwire.abi.samples import flow_record
from deckwire.tables.tables import OpenFlow, Tables
from deckwire.tcp.flow import flow_id
from tests.support.replaying import ReplayLab

NEEDS_ROOT = pytest.mark.root
KEY = bytes(range(36))
ENTRY = flow_id(KEY, 0)
"""What a table finds it by; any seed will do where only sweeps look."""


def flow(
    born_ns: int = 1, *, last_ns: int = 5, slot: int = 3, close: int = 0, key: bytes = KEY
) -> bytes:
    """A struct flow."""
    schema = abi.SCHEMAS["flow"]
    value = schema.parse(bytes(schema.sizeof()))
    value.key = key
    value.totals.update(
        {"born_ns": born_ns, "last_ns": last_ns, "source_slot": slot, "close": close}
    )
    data: bytes = schema.build(value)
    return data


@pytest.fixture
def tables(lab: ReplayLab) -> Iterator[Tables]:
    lab.frames([], [])
    yield Tables(lab.loaded.maps)
    lab.frames([], [])


@given(st.binary(min_size=abi.FLOW_BYTES, max_size=abi.FLOW_BYTES))
def test_what_a_sweep_looks_at_is_what_the_schema_says(value: bytes) -> None:
    state = OpenFlow(ENTRY, value, midstream=False).state
    record = flow_record(value)
    totals = abi.SCHEMAS["flow"].parse(value).totals
    assert state.last_ns == record.last_ns
    assert state.end_sent == record.end_sent
    assert state.closed == (totals.close != abi.CLOSE_NONE)
    assert state.source_slot == totals.source_slot


def half_open(*, client: int = 0, syn_ns: int = 7, answered: bool = False) -> bytes:
    """A struct half_open with a SYN, and its SYN-ACK if it was answered."""
    schema = abi.SCHEMAS["half_open"]
    value = schema.parse(b"\xff" * schema.sizeof())
    value.client = client
    value.syn.update({"time_ns": syn_ns, "ip_version": 4})
    value.synack.ip_version = 4 * answered
    data: bytes = schema.build(value)
    return data


@NEEDS_ROOT
def test_unanswered_attempts_are_those_without_a_synack(lab: ReplayLab, tables: Tables) -> None:
    table = lab.loaded.maps["half_open"]
    table.update(KEY, half_open(client=1, syn_ns=1 << 40))
    table.update(KEY[::-1], half_open(answered=True))
    found = [(KEY, 1, 1 << 40)]
    assert list(tables.unanswered({KEY[16:32]}, 1 << 40)) == found  # an address
    assert list(tables.unanswered({KEY[16:24]}, 0)) == found  # a subnet
    assert list(tables.unanswered({KEY[16:32]}, (1 << 40) + 1)) == []
    assert list(tables.unanswered({KEY[:16], KEY[:8]}, 0)) == []


@NEEDS_ROOT
def test_an_opening_is_read_back_of_the_very_connection(lab: ReplayLab, tables: Tables) -> None:
    lab.loaded.maps["flows"].update(flow_id(KEY, tables.seed), flow(born_ns=7))
    assert tables.handshake(KEY, 7, midstream=False) is not None
    assert tables.handshake(KEY, 8, midstream=False) is None
    assert tables.handshake(KEY, 7, midstream=True) is None
    assert tables.handshake(bytes(36), 7, midstream=False) is None


@NEEDS_ROOT
def test_taking_gives_the_last_figures_and_only_once(lab: ReplayLab, tables: Tables) -> None:
    flows = lab.loaded.maps["flows"]
    flows.update(ENTRY, flow())
    (seen,) = tables.open_flows()
    flows.update(ENTRY, flow(last_ns=99))
    taken = tables.take(seen)
    assert taken is not None
    assert taken.state.last_ns == 99
    assert tables.take(seen) is None
    assert list(tables.open_flows()) == []


@NEEDS_ROOT
def test_another_connection_in_its_place_is_not_taken(lab: ReplayLab, tables: Tables) -> None:
    flows = lab.loaded.maps["flows"]
    flows.update(ENTRY, flow(born_ns=1))
    (seen,) = tables.open_flows()
    flows.update(ENTRY, flow(born_ns=2))
    assert tables.take(seen) is None
    assert flows.lookup(ENTRY) == flow(born_ns=2)


@NEEDS_ROOT
def test_both_tables_are_swept_and_evictions_derived(lab: ReplayLab, tables: Tables) -> None:
    lab.loaded.maps["flows"].update(ENTRY, flow())
    lab.loaded.maps["midstream"].update(KEY, flow())
    found = list(tables.open_flows())
    assert sorted(one.midstream for one in found) == [False, True]
    counters = {**tables.counters(), "midstream_inserts": 5, "midstream_deletes": 1}
    assert tables.evictions(counters)["midstream_evicted"] == 3
    for one in found:
        tables.take(one)
    assert tables.evictions(counters)["midstream_evicted"] == 3


@NEEDS_ROOT
def test_those_that_are_forgotten_are_gone_and_their_sources_recounted(
    lab: ReplayLab, tables: Tables
) -> None:
    keys = [bytes([n]) * 36 for n in range(1, 4)]
    for key in keys:
        lab.loaded.maps["flows"].update(flow_id(key, 0), flow(slot=4, key=key))
        lab.loaded.maps["midstream"].update(key, flow(slot=4, key=key))
    sources, slot = lab.loaded.maps["sources"], (4).to_bytes(4, "little")
    sources.update(slot, b"budget of the s." + (9).to_bytes(8, "little"))
    stays = keys[0]
    for batch in tables.flow_batches():
        chosen = [n for n in range(batch.entries.size) if batch.flow(n).key != stays]
        slots = [batch.states()[n][3] for n in chosen]
        assert tables.forget(batch, chosen, slots) == len(chosen)
        assert tables.forget(batch, chosen, slots) == 0
        assert tables.forget(batch, [], []) == 0
    assert [(one.key, one.midstream) for one in tables.open_flows()] == [
        (stays, False),
        (stays, True),
    ]
    tables.recount_sources({4: 1})
    assert sources.lookup(slot) == b"budget of the s." + (1).to_bytes(8, "little")
    counters = {**tables.counters(), "midstream_inserts": 5, "midstream_deletes": 1}
    assert tables.evictions(counters)["midstream_evicted"] == 1
    sources.update(slot, bytes(24))


@NEEDS_ROOT
def test_sources_are_recounted_and_keep_their_budget(lab: ReplayLab, tables: Tables) -> None:
    sources, flows = lab.loaded.maps["sources"], lab.loaded.maps["flows"]
    slots = [slot.to_bytes(4, "little") for slot in (3, 4, 5)]
    for slot in slots:
        sources.update(slot, b"budget of the s." + (9).to_bytes(8, "little"))
    flows.update(ENTRY, flow(slot=4))
    for one in tables.open_flows():
        tables.take(one)
    tables.recount_sources({3: 2})
    values = [sources.lookup(slot) for slot in slots]
    # 5 is of a source of which nothing is known here: nothing was taken, nothing is present.
    assert values == [b"budget of the s." + n.to_bytes(8, "little") for n in (2, 0, 9)]
    for slot in slots:
        sources.update(slot, bytes(24))


@NEEDS_ROOT
def test_crowd_and_fill(tables: Tables, lab: ReplayLab) -> None:
    room = lab.loaded.maps["flows"].max_entries
    assert (tables.fill(0), tables.fill(room // 2), tables.fill(room)) == (0.0, 0.5, 1.0)
    assert tables.crowd(0) == tables.crowd(room // 2) == 0
    assert tables.crowd(room) == room - int(0.9 * room)


@NEEDS_ROOT
def test_counters_are_summed_over_the_cpus(lab: ReplayLab, tables: Tables) -> None:
    table = lab.loaded.maps["counters"]
    cpus = table.value_size // table.cpu_value_size
    one = b"".join(n.to_bytes(8, "little") for n in range(len(abi.COUNTERS)))
    table.update(bytes(4), one.ljust(table.cpu_value_size, b"\0") * cpus)
    sums = tables.counters()
    assert list(sums) == list(abi.COUNTERS)
    assert list(sums.values()) == [cpus * n for n in range(len(abi.COUNTERS))]
