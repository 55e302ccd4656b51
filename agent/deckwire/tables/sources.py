"""The kernel's table of sources: who has sent probes to which deckies.

The kernel marks what has changed, so an unchanged table costs one look at the marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from deckwire.abi import structs as abi
from deckwire.abi.hashes import address_hash
from deckwire.abi.sources import ProbeKind, Source, Target
from deckwire.kernel.maps import Map
from deckwire.limits import DECKIES, READ_SOURCES, READ_TARGETS
from deckwire.tcp.addresses import MAPPED_PREFIX

_MARK = b"\1"
_SET = (1).to_bytes(8, "little")
_CLEAR = bytes(8)
_KINDS = tuple(ProbeKind)
_NO_MAC = bytes(6)
_PORT = 0xFFFF
_PROTOCOL_SHIFT = 16

_Read = tuple[int, int, bytes]
"""Slot, generation and value of a source."""


class SourceTable:
    """Reads the maps of probes; owns none of them. For one thread."""

    def __init__(self, maps: Mapping[str, Map], seed: int) -> None:
        self._sources = maps["probe_sources"]
        self._targets = maps["probe_targets"]
        self._marks = maps["probe_marks"]
        self._deckies4 = maps["deckies4"]
        self._deckies6 = maps["deckies6"]
        self._seed = seed
        self._deckies: dict[int, bytes] = {}
        """Addresses by their hashes in targets, those that are watched no more too."""
        self._values: dict[int, int] = {}
        """A hash of each slot as it was read last."""
        self._learned = False
        """Whether this call has read the deckies."""
        self._next = 0
        """The set where the next call begins."""

    def changed(self) -> list[Source]:
        """The sources that have changed since they were read last.

        A call stops after READ_SOURCES sources, or READ_TARGETS targets. The next one goes on with
        the others.
        """
        self._learned = False
        marks = self._marks.mapped(0, self._marks.max_entries)
        read: list[_Read] = []
        targets = 0
        for number in self._marked(marks):
            # First: what changes from now on sets the mark again.
            self._marks.update(abi.SLOT.pack(number), _CLEAR)
            for source in self._read(number):
                read.append(source)
                targets += _targets(source[2])
            self._next = number + 1
            if len(read) >= READ_SOURCES or targets >= READ_TARGETS:
                break
        further = self._further(read)
        return [self._source(value, further.get(slot, ())) for slot, _, value in read]

    def _marked(self, marks: bytes) -> Iterator[int]:
        """The numbers of marked sets, from the one after the last one that was read."""
        size = len(_CLEAR)
        begin = self._next % self._marks.max_entries * size
        for first, end in ((begin, len(marks)), (0, begin)):
            at = marks.find(_MARK, first, end)
            while at >= 0:
                yield at // size
                at = marks.find(_MARK, at + 1, end)

    def _read(self, number: int) -> Iterator[_Read]:
        """The sources of a set that have changed."""
        for slot in range(number * abi.PROBE_SOURCE_WAYS, (number + 1) * abi.PROBE_SOURCE_WAYS):
            value = self._sources.mapped(slot, 1)
            (generation,) = abi.PROBE_GENERATION.unpack_from(value)
            after = abi.PROBE_GENERATION.unpack_from(self._sources.mapped(slot, 1))
            if generation & 1 or after != (generation,):
                # The kernel gives the slot to another source just now.
                self._marks.update(abi.SLOT.pack(number), _SET)
            elif generation and self._values.get(slot) != hash(value):
                self._values[slot] = hash(value)
                yield slot, generation, value

    def _further(self, read: Iterable[_Read]) -> dict[int, list[bytes]]:
        """The targets for which their sources' slots have no room, by slot."""
        owners = {
            slot: generation
            for slot, generation, value in read
            if _targets(value) > abi.PROBE_INLINE
        }
        found: dict[int, list[bytes]] = {slot: [] for slot in owners}
        if not owners:
            return found
        size = abi.PROBE_TARGET_BYTES
        values = memoryview(self._targets.mapped(0, self._targets.max_entries))
        # Two lists of numbers take a tenth of the time of reading each target.
        generations = values.cast("I")[abi.PROBE_OWNER // 4 :: size // 4].tolist()
        slots = values.cast("H")[abi.PROBE_OWNER_SOURCE // 2 :: size // 2].tolist()
        for number, (slot, generation) in enumerate(zip(slots, generations, strict=True)):
            if generation and owners.get(slot) == generation:
                found[slot].append(bytes(values[number * size : (number + 1) * size]))
        return found

    def _source(self, value: bytes, further: Iterable[bytes]) -> Source:
        address, first_ns, last_ns, targets, kinds, mac, flags, samples, after, lost = (
            abi.PROBE_SOURCE.unpack_from(value)
        )
        begin, size = abi.PROBE_SOURCE_TARGET, abi.PROBE_TARGET_BYTES
        inside = [value[begin + n * size :] for n in range(min(targets, abi.PROBE_INLINE))]
        counts = abi.PROBE_COUNTS.unpack_from(value)
        numbers = abi.PROBE_SEQUENCES.unpack_from(value)
        isns, ip_ids = numbers[: abi.SEQUENCE_SAMPLES], numbers[abi.SEQUENCE_SAMPLES :]
        order = [(after - n) % abi.SEQUENCE_SAMPLES for n in range(samples, 0, -1)]
        return Source(
            address=address,
            mac=b"" if mac == _NO_MAC else mac,
            first_ns=first_ns,
            last_ns=last_ns,
            probes={kind: counts[kind] for kind in _KINDS if kinds >> kind & 1},
            proven=bool(flags & abi.PROBE_PROVEN),
            targets=self._in_order(chain(inside, further)),
            targets_lost=lost,
            isns=tuple([isns[n] for n in order]),
            ip_ids=tuple([ip_ids[n] for n in order]),
        )

    def _in_order(self, values: Iterable[bytes]) -> tuple[Target, ...]:
        """The targets by the time when they were touched first, each once.

        Two CPUs may have added one target twice.
        """
        found: dict[tuple[bytes, int], Target] = {}
        for value in values:
            decky_hash, where, first_ns, kinds, answers = abi.PROBE_TARGET.unpack_from(value)
            decky = self._decky(decky_hash)
            # It was removed before it was read.
            if decky is None:
                continue
            known = found.get((decky, where))
            if known is not None:
                kinds |= known.kinds
                answers |= known.answers
                first_ns = min(first_ns, known.first_ns)
            port = where & _PORT
            protocol = where >> _PROTOCOL_SHIFT
            found[decky, where] = Target(decky, protocol, port, kinds, answers, first_ns)
        return tuple(sorted(found.values(), key=_first_ns))

    def _decky(self, decky_hash: int) -> bytes | None:
        """The address that has this hash."""
        decky = self._deckies.get(decky_hash)
        if decky is None and not self._learned:
            self._learned = True
            self._learn()
            decky = self._deckies.get(decky_hash)
        return decky

    def _learn(self) -> None:
        """Take the hashes of all deckies that are watched now."""
        if len(self._deckies) > DECKIES:
            self._deckies.clear()
        for table, prefix in ((self._deckies4, MAPPED_PREFIX), (self._deckies6, b"")):
            for key, _ in table.items():
                self._deckies[address_hash(prefix + key, self._seed)] = prefix + key


def _targets(value: bytes) -> int:
    """How many targets of a source are kept."""
    (count,) = abi.PROBE_TARGETS.unpack_from(value)
    return int(count)


def _first_ns(target: Target) -> int:
    return target.first_ns
