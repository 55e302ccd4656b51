"""The kernel's table of sources: who has sent probes to which deckies.

The kernel marks what has changed, so an unchanged table costs one look at the marks.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain

from deckwire.abi import structs as abi
from deckwire.abi.hashes import address_hash
from deckwire.abi.sources import REFUSED_SHIFT, Answer, Glance, ProbeKind, Source, Target
from deckwire.kernel.maps import Map
from deckwire.limits import DECKIES, READ_SETS, READ_SOURCES, READ_TARGETS
from deckwire.tcp.addresses import MAPPED_PREFIX

_MARK = b"\1"
_SET = (1).to_bytes(8, "little")
_CLEAR = bytes(8)
_KINDS = tuple(ProbeKind)
_NO_MAC = bytes(6)
_PORT = 0xFFFF
_PROTOCOL_SHIFT = 16

_SETS_AT_ONCE = 1_024
"""Sets of further targets that are copied together."""
_FEW_OWNERS = 4
"""Sources up to which their targets are looked for one by one."""
_NEVER = -1
"""No hash of Python has this value."""

_Seen = tuple[int, bytes, int, bool, bool, bool]
"""A source that has changed: time of its last probe, address, slot, and what Glance has of it."""


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
        slots = range(self._sources.max_entries)
        self._given = array("q", [_NEVER for _ in slots])
        """A hash of each slot as it was given last."""
        self._news = array("q", [_NEVER for _ in slots])
        """The same of what is more than another probe of the same kind and target."""
        self._learned = False
        """Whether this call has read the deckies."""
        self._next = 0
        """The set where the next call begins."""
        self._sources.unmap()
        self._targets.unmap()

    def changed(self, wants: Callable[[Glance], bool] = lambda _: True) -> Iterator[Source]:
        """The sources that have changed since they were given last, by the times of their probes.

        `wants` says which of them to give now. The others come again with the next call, and so do
        those for which a call has no room: it looks at READ_SETS sets, and stops before that after
        READ_SOURCES sources, or READ_TARGETS targets, that are more than a forged packet each.
        Sources are made one by one, so that a full table takes little memory.
        """
        self._learned = False
        try:
            wanted: list[tuple[int, bytes]] = []
            later: set[int] = set()
            for _, address, slot, *about in self._look():
                value = self._take(slot) if wants(Glance(address, *about)) else None
                if value is not None:
                    wanted.append((slot, value))
                else:
                    later.add(slot // abi.PROBE_SOURCE_WAYS)
            for number in later:
                self._mark(number, _SET)
            further = self._further(wanted)
            for slot, value in wanted:
                yield self._source(value, further.get(slot, ()))
        finally:
            # The pages of these maps count as memory of this process as long as they are mapped.
            self._sources.unmap()
            self._targets.unmap()

    def _look(self) -> list[_Seen]:
        """The sources that have changed in the sets of this call.

        The kernel's order depends on a random seed, and two replays emit the same events.
        """
        marks = self._marks.mapped(0, self._marks.max_entries)
        seen: list[_Seen] = []
        sources = targets = 0
        for sets, number in enumerate(self._marked(marks), 1):
            # First: what changes from now on sets the mark again.
            self._mark(number, _CLEAR)
            for one, kept in self._changed_in(number):
                seen.append(one)
                if one[4]:
                    sources += 1
                    targets += kept
            self._next = number + 1
            if sets >= READ_SETS or sources >= READ_SOURCES or targets >= READ_TARGETS:
                break
        seen.sort()
        return seen

    def _marked(self, marks: bytes) -> Iterator[int]:
        """The numbers of marked sets, from the one after the last one that was read."""
        size = len(_CLEAR)
        begin = self._next % self._marks.max_entries * size
        for first, end in ((begin, len(marks)), (0, begin)):
            at = marks.find(_MARK, first, end)
            while at >= 0:
                yield at // size
                at = marks.find(_MARK, at + 1, end)

    def _mark(self, number: int, value: bytes) -> None:
        self._marks.write_mapped(number, value)

    def _changed_in(self, number: int) -> Iterator[tuple[_Seen, int]]:
        """The sources of a set that have changed, each with its number of targets.

        The kernel may be writing them, so this is only good enough to choose.
        """
        first, size = number * abi.PROBE_SOURCE_WAYS, abi.PROBE_SOURCE_BYTES
        values = self._sources.mapped(first, abi.PROBE_SOURCE_WAYS)
        for way in range(abi.PROBE_SOURCE_WAYS):
            value = values[way * size : (way + 1) * size]
            slot = first + way
            if hash(value) == self._given[slot]:
                continue
            address, last_ns, generation, targets, flags = abi.PROBE_GLANCE.unpack_from(value)
            if generation:
                proven = bool(flags & abi.PROBE_PROVEN)
                strong = proven or targets > abi.PROBE_INLINE
                known = self._news[slot]
                is_news = known == _NEVER or known != _news(value)
                yield (last_ns, address, slot, proven, strong, is_news), targets

    def _take(self, slot: int) -> bytes | None:
        """The value of a slot, to be given now; None if the kernel is writing it."""
        value = self._sources.mapped(slot, 1)
        (generation,) = abi.PROBE_GENERATION.unpack_from(value)
        after = abi.PROBE_GENERATION.unpack_from(self._sources.mapped(slot, 1))
        # Odd: the kernel gives the slot to another source just now.
        if generation & 1 or after != (generation,):
            return None
        self._given[slot] = hash(value)
        self._news[slot] = _news(value)
        return value

    def _further(self, read: Iterable[tuple[int, bytes]]) -> dict[int, list[bytes]]:
        """The targets for which their sources' slots have no room, by slot."""
        owners = {
            slot: abi.PROBE_GENERATION.unpack_from(value)[0]
            for slot, value in read
            if _targets(value) > abi.PROBE_INLINE
        }
        found: dict[int, list[bytes]] = {slot: [] for slot in owners}
        size = abi.PROBE_TARGET_BYTES
        sets = range(0, self._targets.max_entries, _SETS_AT_ONCE) if owners else ()
        for first in sets:
            count = min(_SETS_AT_ONCE, self._targets.max_entries - first)
            values = memoryview(self._targets.mapped(first, count))
            # One list of numbers takes a twentieth of the time of reading each target, and most of
            # them are of other sources.
            slots = values.cast("H")[abi.PROBE_OWNER_SOURCE // 2 :: size // 2].tolist()
            generations = values.cast("I")[abi.PROBE_OWNER // 4 :: size // 4]
            for number in _places(slots, owners):
                # Of a free one it is 0, and of none that has the slot.
                if owners[slots[number]] == generations[number]:
                    target = bytes(values[number * size : (number + 1) * size])
                    found[slots[number]].append(target)
        return found

    def _source(self, value: bytes, further: Iterable[bytes]) -> Source:
        address, first_ns, last_ns, targets, kinds, repeated, mac, flags, lost = (
            abi.PROBE_SOURCE.unpack_from(value)
        )
        begin, size = abi.PROBE_SOURCE_TARGET, abi.PROBE_TARGET_BYTES
        inside = [value[begin + n * size :] for n in range(min(targets, abi.PROBE_INLINE))]
        counts = abi.PROBE_COUNTS.unpack_from(value)
        isns, ip_ids = _sequences(value)
        return Source(
            address=address,
            mac=b"" if mac == _NO_MAC else mac,
            first_ns=first_ns,
            last_ns=last_ns,
            probes={
                kind: counts[kind] if repeated >> kind & 1 else 1
                for kind in _KINDS
                if kinds >> kind & 1
            },
            proven=bool(flags & abi.PROBE_PROVEN),
            targets=self._in_order(chain(inside, further)),
            targets_lost=lost,
            isns=isns,
            ip_ids=ip_ids,
        )

    def _in_order(self, values: Iterable[bytes]) -> tuple[Target, ...]:
        """The targets by the time when they were touched first, each once.

        Two CPUs may have added one target twice.
        """
        found: dict[tuple[bytes, int], Target] = {}
        for value in values:
            decky_hash, where, first_ns, kinds, answers, after = abi.PROBE_TARGET.unpack_from(value)
            decky = self._decky(decky_hash)
            # It was removed before it was read.
            if decky is None:
                continue
            is_refused = answers >> Answer.REFUSED & 1
            refused_ns = first_ns + (after << REFUSED_SHIFT) if is_refused else 0
            known = found.get((decky, where))
            if known is not None:
                kinds |= known.kinds
                answers |= known.answers
                first_ns = min(first_ns, known.first_ns)
                refused_ns = max(refused_ns, known.refused_ns)
            port = where & _PORT
            protocol = where >> _PROTOCOL_SHIFT
            found[decky, where] = Target(
                *(decky, protocol, port, kinds, answers, first_ns, refused_ns)
            )
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


def _places(slots: list[int], owners: Mapping[int, int]) -> Iterator[int]:
    """Where in a list one of the owners is."""
    if len(owners) > _FEW_OWNERS:
        yield from [number for number, slot in enumerate(slots) if slot in owners]
        return
    for slot in owners:
        number = -1
        # Looking for one number takes a fifth of the time of looking at each.
        with suppress(ValueError):
            while True:
                number = slots.index(slot, number + 1)
                yield number


def _news(value: bytes) -> int:
    """A hash of what is more than another probe of a known kind to a known target."""
    begin = abi.PROBE_SOURCE_TARGET
    end = begin + abi.PROBE_INLINE * abi.PROBE_TARGET_BYTES
    return hash((abi.PROBE_NEWS.unpack_from(value), value[begin:end]))


def _sequences(value: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The initial sequence numbers and the IP identifications of the last SYNs, the latest last."""
    syns, first_ip_id, *numbers = abi.PROBE_SEQUENCES.unpack_from(value)
    isns, ip_ids = numbers[: abi.SEQUENCE_SAMPLES], numbers[abi.SEQUENCE_SAMPLES :]
    if syns == 1:
        ip_ids[0] = first_ip_id
    count = min(syns, abi.SEQUENCE_SAMPLES)
    order = [(syns - n) % abi.SEQUENCE_SAMPLES for n in range(count, 0, -1)]
    return tuple([isns[n] for n in order]), tuple([ip_ids[n] for n in order])


def _targets(value: bytes) -> int:
    """How many targets of a source are kept."""
    (count,) = abi.PROBE_TARGETS.unpack_from(value)
    return int(count)


def _first_ns(target: Target) -> int:
    return target.first_ns
