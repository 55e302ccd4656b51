"""The maps of watched deckies: replaced as a whole, or left as they were."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from deckwire.kernel.maps import Map
from deckwire.limits import DECKY_BITS
from deckwire.tables.bloom_filter import filter_of, union
from deckwire.tcp.addresses import MAPPED_PREFIX

_ZERO = bytes(4)
_PRESENT = b"\1"
_IPV6_BYTES = 16
_SLICE = 4_096
"""Entries written in one go, in about 2 ms."""


def _nothing() -> None:
    pass


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
        """Watch these deckies from now on, and no others: `prepare` and `apply` in one."""
        self.apply(self.prepare(addresses))

    def prepare(self, addresses: Collection[bytes]) -> DeckiesChange:
        """Find out what to write. Another thread may do it while nobody else uses these tables.

        Args:
            addresses: 16 bytes each, IPv4 as IPv4-mapped; a set, because each is looked up.

        Raises:
            DeckiesRefused: the kernel refused to list its deckies.
        """
        after = filter_of(addresses)
        try:
            changes = _Change(self._deckies4, addresses), _Change(self._deckies6, addresses)
            before = self._filter.lookup(_ZERO) or bytes(DECKY_BITS // 8)
        except OSError as error:
            raise DeckiesRefused(error, 0) from error
        return DeckiesChange(changes, before, after)

    def apply(self, change: DeckiesChange, between: Callable[[], None] = _nothing) -> None:
        """Watch the deckies of a change from now on, and no others.

        A decky that is watched before and after is also watched meanwhile. Its entry is not
        touched, and the Bloom filter has the bits of both sets until the end.

        Args:
            change: prepared after all earlier changes were applied.
            between: called after every few thousand entries, for other work.

        Raises:
            DeckiesRefused: the kernel refused a write; what was watched before is watched again.
        """
        try:
            self._filter.update(_ZERO, union(change.before, change.after))
            # Removal comes first, because a full map has no room for new deckies before.
            for part in change.parts:
                part.remove(between)
            for part in change.parts:
                part.add(between)
            self._filter.update(_ZERO, change.after)
        except OSError as error:
            missing = sum([part.undo() for part in change.parts])
            if not missing:
                with suppress(OSError):  # extra bits cost look-ups but conceal no decky
                    self._filter.update(_ZERO, change.before)
            raise DeckiesRefused(error, missing) from error


class _Change:
    """The entries to remove from one map and to add to it.

    It makes no object for each entry: a full registry takes megabytes, which would stay.
    """

    def __init__(self, table: Map, addresses: Collection[bytes]) -> None:
        """`addresses` are those of all deckies. The map gets those of its own family."""
        self._table = table
        is_v4 = table.key_size < _IPV6_BYTES
        prefix = MAPPED_PREFIX if is_v4 else b""
        removed, added = bytearray(), bytearray()
        stay = 0
        for batch in table.batches():
            for key in batch.every_key():
                if prefix + key in addresses:
                    stay += 1
                else:
                    removed += key
        wanted = sum(one.startswith(MAPPED_PREFIX) is is_v4 for one in addresses)
        if stay < wanted:
            for one in addresses:
                # To look up each one takes longer than to remember the keys, but no memory.
                if one.startswith(MAPPED_PREFIX) is is_v4:
                    key = one[len(prefix) :]
                    if not stay or table.lookup(key) is None:
                        added += key
        self._removed, self._added = bytes(removed), bytes(added)
        """Keys, one after another."""

    @property
    def removes(self) -> bool:
        """Whether deckies leave."""
        return bool(self._removed)

    def remove(self, between: Callable[[], None]) -> None:
        for keys in self._slices(self._removed):
            self._table.delete_batch(b"".join(keys))
            between()

    def add(self, between: Callable[[], None]) -> None:
        for keys in self._slices(self._added):
            self._table.update_batch(keys, _PRESENT)
            between()

    def undo(self) -> int:
        """Restore the map as far as the kernel allows; return how many entries are missing."""
        with suppress(
            OSError
        ):  # an entry that stays is no decky of the registry, so its traffic gives no event
            self._table.delete_batch(self._added)
        removed = [key for keys in self._slices(self._removed) for key in keys]
        try:
            self._table.update_batch(removed, _PRESENT)
        except OSError:
            return sum([not self._put_back(key) for key in removed])
        return 0

    def _slices(self, keys: bytes) -> Iterator[list[bytes]]:
        size = self._table.key_size
        for begin in range(0, len(keys), _SLICE * size):
            end = min(begin + _SLICE * size, len(keys))
            yield [keys[at : at + size] for at in range(begin, end, size)]

    def _put_back(self, key: bytes) -> bool:
        try:
            self._table.update(key, _PRESENT)
        except OSError:
            return False
        return True


class DeckiesChange(NamedTuple):
    """What is to be written, as of the moment when it was prepared."""

    parts: tuple[_Change, ...]
    before: bytes
    """The Bloom filter."""
    after: bytes

    @property
    def removes(self) -> bool:
        """Whether deckies leave that were watched."""
        return any(part.removes for part in self.parts)
