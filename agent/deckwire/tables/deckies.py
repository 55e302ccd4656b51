"""The maps of watched deckies: replaced as a whole, or left as they were."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

from deckwire.kernel.maps import Map
from deckwire.limits import DECKY_BITS
from deckwire.tables.bloom_filter import filter_of, union
from deckwire.tcp.addresses import MAPPED_PREFIX

_ZERO = bytes(4)
_PRESENT = b"\1"


class DeckiesRefused(OSError):
    """The kernel refused new deckies; holds the errno and one line that says why."""

    def __init__(self, reason: OSError, missing: int) -> None:
        super().__init__(
            reason.errno, f"the kernel refused the deckies: {reason.strerror or reason}"
        )
        self.missing = missing
        """Deckies watched before that the kernel refused to take back."""


class DeckyTables:
    """Writes the maps deckies4, deckies6 and decky_filter; owns none of them. For one thread.

    Each change first reads from the kernel what the maps hold. So it also repairs an earlier change
    that could not be undone.
    """

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._deckies4 = maps["deckies4"]
        self._deckies6 = maps["deckies6"]
        self._filter = maps["decky_filter"]

    def replace(self, addresses: Collection[bytes]) -> None:
        """Watch these deckies from now on, and no others.

        A decky that is watched before and after is also watched meanwhile. Its entry is not
        touched, and the Bloom filter has the bits of both sets until the end.

        Args:
            addresses: 16 bytes each, IPv4 as IPv4-mapped.

        Raises:
            DeckiesRefused: the kernel refused a write; what was watched before is watched again.
        """
        after = filter_of(addresses)
        mapped = len(MAPPED_PREFIX)
        wanted4 = {packed[mapped:] for packed in addresses if packed.startswith(MAPPED_PREFIX)}
        wanted6 = {packed for packed in addresses if not packed.startswith(MAPPED_PREFIX)}
        try:
            changes = [_Change(self._deckies4, wanted4), _Change(self._deckies6, wanted6)]
            before = self._filter.lookup(_ZERO) or bytes(DECKY_BITS // 8)
        except OSError as error:
            raise DeckiesRefused(error, 0) from error
        try:
            self._filter.update(_ZERO, union(before, after))
            # Removal comes first, because a full map has no room for new deckies before.
            for change in changes:
                change.remove()
            for change in changes:
                change.add()
            self._filter.update(_ZERO, after)
        except OSError as error:
            missing = sum([change.undo() for change in changes])
            if not missing:
                with suppress(OSError):  # extra bits cost look-ups but conceal no decky
                    self._filter.update(_ZERO, before)
            raise DeckiesRefused(error, missing) from error


class _Change:
    """The entries to remove from one map and to add to it."""

    def __init__(self, table: Map, wanted: set[bytes]) -> None:
        """`wanted` are all keys that the map is to have. Keys already there are taken out of it."""
        self._table = table
        self._removed: list[bytes] = []
        for batch in table.batches():
            for key in batch.every_key():
                if key in wanted:
                    wanted.remove(key)
                else:
                    self._removed.append(key)
        self._added = list(wanted)

    def remove(self) -> None:
        self._table.delete_batch(b"".join(self._removed))

    def add(self) -> None:
        self._table.update_batch(self._added, _PRESENT)

    def undo(self) -> int:
        """Restore the map as far as the kernel allows; return how many entries are missing."""
        with suppress(
            OSError
        ):  # an entry that stays is no decky of the registry, so its traffic gives no event
            self._table.delete_batch(b"".join(self._added))
        try:
            self._table.update_batch(self._removed, _PRESENT)
        except OSError:
            return sum([not self._put_back(key) for key in self._removed])
        return 0

    def _put_back(self, key: bytes) -> bool:
        try:
            self._table.update(key, _PRESENT)
        except OSError:
            return False
        return True
