"""The kernel's counters, summed over the CPUs."""

from __future__ import annotations

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map

_ZERO = abi.SLOT.pack(0)


def kernel_counters(table: Map) -> dict[str, int]:
    """struct counters by name, from the map counters."""
    sums = [0] * len(abi.COUNTERS)
    for value in table.lookup_cpus(_ZERO):
        for index, count in enumerate(abi.COUNTER_VALUES.unpack_from(value)):
            sums[index] += count
    return dict(zip(abi.COUNTERS, sums, strict=True))
