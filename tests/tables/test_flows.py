"""The tables of open connections, on real maps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.abi import structs as abi
from deckwire.abi.hashes import flow_id
from deckwire.abi.samples import flow_record
from deckwire.tables.flows import OpenFlow
from deckwire.tables.tables import Tables
from tests.support.replaying import ReplayLab

NEEDS_ROOT = pytest.mark.root
KEY = bytes(range(36))
ENTRY = flow_id(KEY, 0)
"""The key of the flows map; any seed will do where only sweeps read."""


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
def test_a_sweep_reads_the_members_of_the_schema(value: bytes) -> None:
    state = OpenFlow(ENTRY, value, midstream=False).state
    record = flow_record(value)
    totals = abi.SCHEMAS["flow"].parse(value).totals
    assert state.last_ns == record.last_ns
    assert bool(state.end_sent) == record.end_sent
    assert state.closed == (totals.close != abi.CLOSE_NONE)
    assert state.source_slot == totals.source_slot


@NEEDS_ROOT
def test_a_handshake_is_read_only_of_the_same_connection(lab: ReplayLab, tables: Tables) -> None:
    lab.loaded.maps["flows"].update(flow_id(KEY, tables.seed), flow(born_ns=7))
    assert tables.flows.handshake(KEY, 7, midstream=False) is not None
    assert tables.flows.handshake(KEY, 8, midstream=False) is None
    assert tables.flows.handshake(KEY, 7, midstream=True) is None
    assert tables.flows.handshake(bytes(36), 7, midstream=False) is None


@NEEDS_ROOT
def test_take_returns_the_last_figures_once(lab: ReplayLab, tables: Tables) -> None:
    flows = lab.loaded.maps["flows"]
    flows.update(ENTRY, flow())
    (seen,) = tables.flows.every_flow()
    flows.update(ENTRY, flow(last_ns=99))
    taken = tables.flows.take(seen)
    assert taken is not None
    assert taken.state.last_ns == 99
    assert tables.flows.take(seen) is None
    assert list(tables.flows.every_flow()) == []


@NEEDS_ROOT
def test_take_spares_another_connection_with_the_same_key(lab: ReplayLab, tables: Tables) -> None:
    flows = lab.loaded.maps["flows"]
    flows.update(ENTRY, flow(born_ns=1))
    (seen,) = tables.flows.every_flow()
    flows.update(ENTRY, flow(born_ns=2))
    assert tables.flows.take(seen) is None
    assert flows.lookup(ENTRY) == flow(born_ns=2)


@NEEDS_ROOT
def test_ended_connections_are_deleted_and_their_sources_recounted(
    lab: ReplayLab, tables: Tables
) -> None:
    keys = [bytes([n]) * 36 for n in range(1, 4)]
    for key in keys:
        lab.loaded.maps["flows"].update(flow_id(key, 0), flow(slot=4, key=key))
        lab.loaded.maps["midstream_flows"].update(key, flow(slot=4, key=key))
    sources, slot = lab.loaded.maps["sources"], (4).to_bytes(4, "little")
    sources.update(slot, b"budget of the s." + (9).to_bytes(8, "little"))
    stays = keys[0]
    for batch in tables.flows.batches():
        chosen = [n for n in range(batch.entries.size) if batch.flow(n).key != stays]
        slots = [batch.states()[n][2] for n in chosen]
        assert tables.flows.delete_ended(batch, chosen, slots) == len(chosen)
        assert tables.flows.delete_ended(batch, chosen, slots) == 0
        assert tables.flows.delete_ended(batch, [], []) == 0
    assert [(one.key, one.midstream) for one in tables.flows.every_flow()] == [
        (stays, False),
        (stays, True),
    ]
    list(tables.flows.recount_sources({4: 1}, 1))
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
    for one in tables.flows.every_flow():
        tables.flows.take(one)
    assert len(list(tables.flows.recount_sources({3: 2}, 1))) == 2, "in parts of one source"
    values = [sources.lookup(slot) for slot in slots]
    # Nothing was taken in slot 5 and nothing is present, so its count stays.
    assert values == [b"budget of the s." + n.to_bytes(8, "little") for n in (2, 0, 9)]
    for slot in slots:
        sources.update(slot, bytes(24))


@NEEDS_ROOT
def test_crowd_counts_what_is_above_nine_tenths(tables: Tables, lab: ReplayLab) -> None:
    room = lab.loaded.maps["flows"].max_entries
    assert (tables.flows.fill(0), tables.flows.fill(room // 2), tables.flows.fill(room)) == (
        0.0,
        0.5,
        1.0,
    )
    assert tables.flows.crowd(0) == tables.flows.crowd(room // 2) == 0
    assert tables.flows.crowd(room) == room - int(0.9 * room)
