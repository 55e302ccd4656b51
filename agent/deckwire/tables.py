"""The kernel's tables as the agent uses them: who is watched, what is open, what was counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import NamedTuple

from deckwire import abi
from deckwire.deckies import MAPPED_PREFIX, Decky
from deckwire.handshake import Handshake
from deckwire.kernel.maps import Map
from deckwire.limits import SYN_SEEN_SLOTS
from deckwire.sample import flow_handshake

_SLOT = Struct("<I")
_ZERO = _SLOT.pack(0)
_PRESENT = b"\1"
_COUNTERS = Struct(f"<{len(abi.COUNTERS)}Q")


class OpenFlow(NamedTuple):
    """One entry of the flows or strays table."""

    key: bytes
    value: bytes
    """struct flow."""
    stray: bool


class Tables:
    """Reads and writes the maps; owns none of them. For one thread."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._deckies4 = maps["deckies4"]
        self._deckies6 = maps["deckies6"]
        self._half_open = maps["half_open"]
        self._flows = maps["flows"]
        self._strays = maps["strays"]
        self._syn_seen = maps["syn_seen"]
        self._counters = maps["counters"]
        self._strays_deleted = 0

    def watch(self, decky: Decky) -> None:
        """Traffic of this decky is captured from now on.

        Raises:
            OSError: the kernel refused.
        """
        table, key = self._decky_entry(decky)
        table.update(key, _PRESENT)

    def unwatch(self, decky: Decky) -> None:
        """Traffic of this decky passes untouched from now on."""
        table, key = self._decky_entry(decky)
        table.delete(key)

    def handshake(self, key: bytes, born_ns: int, stray: bool) -> Handshake | None:
        """The handshake of an open connection; None if it is gone or another took its place."""
        value = (self._strays if stray else self._flows).lookup(key)
        if value is None or int.from_bytes(value[:8], "little") != born_ns:
            return None
        return flow_handshake(value)

    def suppress_syn(self, signature: int, until_ns: int, now_ns: int) -> None:
        """SYNs of this signature need no sample until `until_ns`, in kernel time: it was told."""
        slot = (signature >> 32) & (SYN_SEEN_SLOTS - 1)
        value = abi.SYN_SEEN.build(
            {
                "signature": signature,
                "expires_ns": until_ns,
                "suppressed": 0,
                "first_ns": now_ns,
                "last_ns": now_ns,
                "deckies": 0,
            }
        )
        self._syn_seen.update(_SLOT.pack(slot), value)

    def open_flows(self) -> Iterator[OpenFlow]:
        """Every connection in the tables; entries may be deleted on the way."""
        for key, value in self._flows.items():
            yield OpenFlow(key, value, stray=False)
        for key, value in self._strays.items():
            yield OpenFlow(key, value, stray=True)

    def forget(self, flow: OpenFlow) -> None:
        """Deletes a connection, unless another has taken its place meanwhile."""
        table = self._strays if flow.stray else self._flows
        value = table.lookup(flow.key)
        if value is not None and value[:8] == flow.value[:8] and table.delete(flow.key):
            self._strays_deleted += flow.stray

    def counters(self) -> dict[str, int]:
        """struct counters by name, summed over the CPUs."""
        sums = [0] * len(abi.COUNTERS)
        for value in self._counters.lookup_cpus(_ZERO):
            for index, count in enumerate(_COUNTERS.unpack_from(value)):
                sums[index] += count
        return dict(zip(abi.COUNTERS, sums, strict=True))

    def evictions(self, counters: Mapping[str, int]) -> dict[str, int]:
        """What the LRU tables pushed out: inserted - deleted - present, by a sweep of each."""
        half_open = sum(1 for _ in self._half_open.items())
        strays = sum(1 for _ in self._strays.items())
        return {
            "half_open_evicted": max(
                counters["half_open_inserts"] - counters["half_open_deletes"] - half_open, 0
            ),
            "stray_evicted": max(
                counters["stray_inserts"]
                - counters["stray_deletes"]
                - self._strays_deleted
                - strays,
                0,
            ),
        }

    def _decky_entry(self, decky: Decky) -> tuple[Map, bytes]:
        packed = decky.packed
        if packed.startswith(MAPPED_PREFIX):
            return self._deckies4, packed[len(MAPPED_PREFIX) :]
        return self._deckies6, packed
