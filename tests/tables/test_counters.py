"""The counters of the kernel, on the real map."""

from __future__ import annotations

import pytest

from deckwire.abi import structs as abi
from deckwire.tables.counters import kernel_counters
from tests.support.replaying import ReplayLab


@pytest.mark.root
def test_counters_are_summed_over_the_cpus(lab: ReplayLab) -> None:
    lab.frames([], [])
    table = lab.loaded.maps["counters"]
    cpus = table.value_size // table.cpu_value_size
    one = b"".join(n.to_bytes(8, "little") for n in range(len(abi.COUNTERS)))
    table.update(bytes(4), one.ljust(table.cpu_value_size, b"\0") * cpus)
    sums = kernel_counters(table)
    assert list(sums) == list(abi.COUNTERS)
    assert list(sums.values()) == [cpus * n for n in range(len(abi.COUNTERS))]
    lab.frames([], [])
