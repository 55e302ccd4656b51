"""The targets of one scan: decky, protocol and port of each, and what is known of it.

Most scans have a few targets, so those are kept in one string of bytes: a tenth of the memory of
dictionaries. A flood from forged sources makes thousands of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct

from deckwire.scans.order import Place

_FEW = 4
"""Targets up to which they are kept so."""
_ONE = Struct("<16sII")
"""Decky, protocol and port, what is known."""
_PORT_BITS = 16
_WHERE_BITS = 24
_WHERE = (1 << _WHERE_BITS) - 1


class Targets:
    """Targets in the order of their first touches. What is known of one is a number of bits."""

    __slots__ = ("_deckies", "_few", "_found")

    def __init__(self) -> None:
        self._few = b""
        self._deckies: dict[bytes, int] | None = None
        """The number of each decky, in their order; None as long as the targets are few."""
        self._found: dict[int, int] | None = None
        """What is known of each, by number of the decky, protocol and port."""

    def __len__(self) -> int:
        return len(self._few) // _ONE.size if self._found is None else len(self._found)

    def __contains__(self, target: Place) -> bool:
        decky, where = target[0], _where(target)
        if self._deckies is None or self._found is None:
            return any((decky, where) == one[:2] for one in _ONE.iter_unpack(self._few))
        number = self._deckies.get(decky)
        return number is not None and number << _WHERE_BITS | where in self._found

    def add(self, target: Place, known: int) -> None:
        """Add a target, or what more is known of it."""
        decky, where = target[0], _where(target)
        if self._deckies is None or self._found is None:
            for number, (other, place, before) in enumerate(_ONE.iter_unpack(self._few)):
                if (other, place) == (decky, where):
                    at = number * _ONE.size
                    one = _ONE.pack(decky, where, before | known)
                    self._few = self._few[:at] + one + self._few[at + _ONE.size :]
                    return
            if len(self) < _FEW:
                self._few += _ONE.pack(decky, where, known)
                return
            self._deckies, self._found = self.memory
            self._few = b""
        number = self._deckies.setdefault(decky, len(self._deckies)) << _WHERE_BITS | where
        self._found[number] = self._found.get(number, 0) | known

    def __iter__(self) -> Iterator[tuple[Place, int]]:
        """Each target, and what is known of it."""
        if self._deckies is None or self._found is None:
            for decky, where, known in _ONE.iter_unpack(self._few):
                yield _place(decky, where), known
            return
        deckies = list(self._deckies)
        for number, known in self._found.items():
            yield _place(deckies[number >> _WHERE_BITS], number & _WHERE), known

    def deckies(self) -> list[bytes]:
        """The deckies, in the order of their first touches."""
        if self._deckies is not None:
            return list(self._deckies)
        return list(dict.fromkeys(decky for decky, _, _ in _ONE.iter_unpack(self._few)))

    @property
    def memory(self) -> tuple[dict[bytes, int], dict[int, int]]:
        """The number of each decky; what is known, by that number, protocol and port."""
        if self._deckies is not None and self._found is not None:
            return self._deckies, self._found
        deckies = {decky: number for number, decky in enumerate(self.deckies())}
        return deckies, {
            deckies[decky] << _WHERE_BITS | where: known
            for decky, where, known in _ONE.iter_unpack(self._few)
        }

    def restore(self, deckies: Sequence[bytes], found: Mapping[int, int]) -> None:
        """Take what `memory` of other ones gave. Raises IndexError for a decky without a number."""
        for number, known in found.items():
            self.add(_place(deckies[number >> _WHERE_BITS], number & _WHERE), known)


def _where(target: Place) -> int:
    _, protocol, port = target
    return (protocol & 0xFF) << _PORT_BITS | port & 0xFFFF


def _place(decky: bytes, where: int) -> Place:
    return decky, where >> _PORT_BITS, where & 0xFFFF
