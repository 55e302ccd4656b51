"""All views of the maps together, on real maps."""

from __future__ import annotations

import pytest

from deckwire.tables.tables import Tables
from tests.support.replaying import ReplayLab
from tests.tables.test_flows import ENTRY, KEY, flow


@pytest.mark.root
def test_evictions_are_derived_from_both_tables(lab: ReplayLab) -> None:
    lab.frames([], [])
    tables = Tables(lab.loaded.maps)
    lab.loaded.maps["flows"].update(ENTRY, flow())
    lab.loaded.maps["midstream_flows"].update(KEY, flow())
    found = list(tables.flows.every_flow())
    assert sorted(one.midstream for one in found) == [False, True]
    counters = {**tables.counters(), "midstream_inserts": 5, "midstream_deletes": 1}
    assert tables.evictions(counters)["midstream_evicted"] == 3
    for one in found:
        tables.flows.take(one)
    assert tables.evictions(counters)["midstream_evicted"] == 3
    lab.frames([], [])
