"""All maps of the kernel side that the agent uses, each through its own view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map
from deckwire.tables.begun import BegunTable
from deckwire.tables.counters import kernel_counters
from deckwire.tables.deckies import DeckyTables
from deckwire.tables.flows import FlowTables
from deckwire.tables.half_open import HalfOpenTable
from deckwire.tables.own_host import OwnHostTables
from deckwire.tables.ring_room import RingRoom
from deckwire.tables.sources import SourceTable
from deckwire.tables.suppression import Suppression

_ZERO = abi.SLOT.pack(0)


class Tables:
    """The views of the maps of one loaded kernel side. It owns no map. For one thread."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._settings = maps["settings"]
        settings = abi.SETTINGS.parse(self._settings.lookup(_ZERO))
        self.seed: int = settings.seed
        """Seed of the kernel's hashes."""
        self.suppressing = bool(settings.dedup)
        """Whether the kernel suppresses samples at all."""
        self.deckies = DeckyTables(maps)
        self.own_host = OwnHostTables(maps)
        self.half_open = HalfOpenTable(maps)
        self.flows = FlowTables(maps, self.seed, settings.flows_per_source)
        self.syns: Suppression[Any] = Suppression(maps["syn_seen"])
        """By the kernel's signature of a SYN."""
        self.services: Suppression[Any] = Suppression(maps["service_seen"], maps["service_sums"])
        """By service_signature()."""
        self.hellos: Suppression[Any] = Suppression(maps["hello_seen"])
        """By the kernel's signature of a ClientHello."""
        self.anomalies: Suppression[Any] = Suppression(maps["anomaly_seen"])
        """By the kernel's signature of an anomaly."""
        self.sources = SourceTable(maps, self.seed)
        """Who has sent probes to which deckies."""
        self.begun = BegunTable(maps)
        """What deckies have sent on their own."""
        self.ring_room = RingRoom(maps)
        """How far the rings are read."""
        self._counters = maps["counters"]

    def change_settings(self, members: Mapping[str, int]) -> None:
        """Change these members of struct settings. Raises OSError, and nothing changes."""
        settings = abi.SETTINGS.parse(self._settings.lookup(_ZERO))
        for name, value in members.items():
            settings[name] = value
        self._settings.update(_ZERO, abi.SETTINGS.build(settings))
        self.suppressing = bool(settings.dedup)

    def counters(self) -> dict[str, int]:
        """struct counters by name, summed over the CPUs."""
        return kernel_counters(self._counters)

    def evictions(self, counters: Mapping[str, int]) -> dict[str, int]:
        """Entries that the LRU map evicted: inserted - deleted - present, by a sweep of it."""
        midstream = counters["midstream_inserts"] - counters["midstream_deletes"]
        midstream -= self.flows.midstream_deleted
        return {"midstream_evicted": max(midstream - self.flows.midstream_size(), 0)}
