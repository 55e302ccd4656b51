"""How far the rings are read, for the kernel: half of each has room for what nothing makes good."""

from __future__ import annotations

from collections.abc import Mapping

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map
from deckwire.kernel.rings import Rings


class RingRoom:
    """Writes the map `rings`; owns nothing. For one thread."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._table = maps["rings"]

    def note(self, rings: Rings) -> None:
        """Take what was read of the rings.

        From the first call on, the kernel defers samples that a sweep makes good, as long as half
        of a ring is taken.
        """
        for cpu, read in rings.read.items():
            if cpu < self._table.max_entries:
                self._table.update(abi.SLOT.pack(cpu), abi.RING.pack(read, rings.size // 2))
