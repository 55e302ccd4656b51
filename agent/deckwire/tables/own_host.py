"""The maps of the host itself, whose connections the kernel ignores."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map
from deckwire.limits import OWN_ADDRESSES, OWN_MACS

_MAC_KEY_BYTES = 8
_PRESENT = b"\1"


class OwnHostTables:
    """Writes the maps own_addresses and own_macs; owns neither. For one thread."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._addresses = maps["own_addresses"]
        self._macs = maps["own_macs"]
        self._settings = maps["settings"]

    def replace(self, addresses: Collection[bytes], macs: Collection[bytes]) -> int:
        """Ignore connections that these addresses open with one of these MAC addresses.

        Args:
            addresses: 16 bytes each.
            macs: 6 bytes each.

        Returns:
            How many found no room.

        Raises:
            OSError: the kernel refused a write.
        """
        keys = [mac.ljust(_MAC_KEY_BYTES, b"\0") for mac in macs]
        left_out = _replace(self._addresses, addresses, OWN_ADDRESSES)
        left_out += _replace(self._macs, keys, OWN_MACS)
        self._switch(bool(addresses and macs))
        return left_out

    def _switch(self, on: bool) -> None:
        key = bytes(self._settings.key_size)
        value = self._settings.lookup(key)
        if value is None:
            return
        current = abi.SETTINGS.parse(value)
        if current.own_host != on:
            current.own_host = int(on)
            self._settings.update(key, abi.SETTINGS.build(current))


def _replace(table: Map, keys: Collection[bytes], room: int) -> int:
    """Make these the only keys, as far as there is room; return how many were left out."""
    wanted = set(sorted(keys)[:room])
    present = {key for key, _ in table.items()}
    for key in present - wanted:
        table.delete(key)
    for key in wanted - present:
        table.update(key, _PRESENT)
    return max(len(keys) - room, 0)
