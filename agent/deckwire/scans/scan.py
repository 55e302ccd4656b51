"""One scan: all that a source has probed until it falls silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from deckwire.abi.sources import Answer, ProbeKind, Source
from deckwire.limits import SCAN_TARGETS
from deckwire.scans.author import NOBODY, Author
from deckwire.scans.order import Place, place
from deckwire.scans.targets import Targets

_ANSWER_SHIFT = len(ProbeKind)
"""A target's kinds and answers are kept as one number."""
_ANSWER_BITS = Answer.REFUSED + 1
"""How an answer looks is nothing that a scan shows."""
_ARP = frozenset({ProbeKind.ARP})

_Counts = tuple[int, ...]
"""A kind, its count, another kind, its count: a third of the memory of a dictionary."""


class Baseline(NamedTuple):
    """What the kernel's record of a source had counted at some time."""

    first_ns: int
    """It names the record: another one of the same source begins at another time."""
    last_ns: int
    counts: _Counts
    targets_lost: int

    def has_all_of(self, source: Source) -> bool:
        """Whether a record says only what it had said then."""
        return self.first_ns == source.first_ns and self.counts == _packed(source.probes)


_NOTHING = Baseline(-1, 0, (), 0)


class Scan:
    """The probes of one source. Its counts only grow. Times are those of the samples' clock."""

    __slots__ = (
        "_before",
        "_counts",
        "_seen",
        "_targets",
        "_unkept",
        "address",
        "author",
        "begun",
        "estimate",
        "first_ns",
        "last_ns",
        "lost",
        "mac",
        "next_growth",
        "proven",
        "scan_id",
        "taken_ns",
    )

    def __init__(self, address: bytes, first_ns: int) -> None:
        """`address` is the source in 16 bytes; IPv4 is mapped."""
        self.address = address
        self.scan_id = ""
        """16 hexadecimal digits; "" if no event has named it."""
        self.first_ns = self.last_ns = first_ns
        self.taken_ns = 0
        """When the kernel's record was taken last."""
        self.mac = b""
        self.proven = False
        self.author: Author = NOBODY
        self.begun = False
        """Whether it was reported that it has begun."""
        self.next_growth = 0
        """So many targets are reported next."""
        self.estimate = 0
        """How many targets it has touched, as far as that can be said."""
        self.lost = 0
        """Touches of targets that are not kept."""
        self._counts: _Counts = ()
        self._targets = Targets()
        """With kinds and answers of each."""
        self._seen = _NOTHING
        self._before = _NOTHING
        """What the kernel's record had counted for the scan before this one."""
        self._unkept = 0
        """Targets of the kernel's present record for which there was no room here."""

    def __len__(self) -> int:
        """How many targets are kept."""
        return len(self._targets)

    @property
    def probes(self) -> Counter[ProbeKind]:
        """How many probes of each kind."""
        return _unpacked(self._counts)

    @probes.setter
    def probes(self, probes: Mapping[ProbeKind, int]) -> None:
        self._counts = _packed(probes)

    def has(self, kinds: frozenset[ProbeKind]) -> bool:
        """Whether there are probes of all these kinds."""
        return kinds.issubset(self._counts[::2])

    @property
    def exact(self) -> bool:
        """Whether every target is kept."""
        return not self.lost and not self._unkept and self._before is _NOTHING

    @property
    def baseline(self) -> Baseline:
        """What of the kernel's record is in this scan."""
        return self._seen

    def begin_after(self, ended: Baseline) -> None:
        """Leave out what the kernel's record had counted when the scan before this one ended."""
        self._seen = self._before = ended

    def take(self, source: Source, room: int) -> None:
        """Add what a record has counted since the last one; `room` is for new targets."""
        seen = self._seen
        if source.first_ns != seen.first_ns:
            # The kernel has begun another record, and this scan has what the other had counted.
            seen = _NOTHING
            self.lost += self._unkept
            self.first_ns = min(self.first_ns, source.first_ns)
        counts = _packed(source.probes)
        if self._counts is not seen.counts or sum(counts[1::2]) < sum(seen.counts[1::2]):
            # Not all of them are of this record, or a counter of the kernel began at 0 again.
            probes, before = self.probes, _unpacked(seen.counts)
            for kind, count in source.probes.items():
                probes[kind] += max(count - before[kind], 0)
            self.probes = probes
        else:
            self._counts = counts
        self.lost += max(source.targets_lost - seen.targets_lost, 0)
        self.last_ns = max(self.last_ns, source.last_ns)
        self.mac = source.mac or self.mac
        self.proven |= source.proven
        self._take_targets(source, min(room, SCAN_TARGETS - len(self._targets)))
        self._seen = Baseline(source.first_ns, source.last_ns, counts, source.targets_lost)
        self.estimate = max(self.estimate, self._estimated())

    def _take_targets(self, source: Source, room: int) -> None:
        self._unkept = 0
        before_ns = self._before.last_ns if self._before.first_ns == source.first_ns else 0
        new = [target for target in source.targets if target.first_ns > before_ns]
        # If it touched only what the scan before it had touched, it is unknown which of that.
        for target in new or (() if self._targets else source.targets):
            where = place(target)
            if where not in self._targets:
                if room <= 0:
                    self._unkept += 1
                    continue
                room -= 1
            answers = target.answers & (1 << _ANSWER_BITS) - 1
            self._targets.add(where, target.kinds | answers << _ANSWER_SHIFT)

    @property
    def memory(self) -> tuple[list[bytes], dict[int, int]]:
        """The deckies and targets as numbers, for `restore`."""
        deckies, found = self._targets.memory
        return list(deckies), found

    def restore(self, deckies: list[bytes], targets: dict[int, int]) -> None:
        """Take what `memory` of another one gave. Raises ValueError if it can be none."""
        known = len({*deckies}) == len(deckies) and all(len(each) == 16 for each in deckies)
        if not known or len(targets) > SCAN_TARGETS:
            raise ValueError("deckies")
        for at, found in targets.items():
            if at >> 24 >= len(deckies) or not 0 < found < 1 << _ANSWER_SHIFT + _ANSWER_BITS:
                raise ValueError("targets")
        self._targets.restore(deckies, targets)
        self.estimate = max(self.estimate, self._estimated())

    def _estimated(self) -> int:
        """Known targets, and lost ones if those were touched as often as the known ones.

        A decky whose address was resolved counts as one. It loses that with its first target over
        IP, so the sum never gets smaller.
        """
        known = len(self._targets)
        if self.exact and not self.has(_ARP):
            return known
        known += self._unkept - len(self._resolved())
        touches = max(self.probes.total() - self.lost, known)
        return known + (round(self.lost * known / touches) if touches else 0)

    def _resolved(self) -> set[bytes]:
        """Deckies with a target of ARP or neighbour discovery that is only the way to others."""
        if not self.has(_ARP):
            return set()
        resolved: set[bytes] = set()
        over_ip: set[bytes] = set()
        for (decky, protocol, _), _ in self._targets:
            (over_ip if protocol else resolved).add(decky)
        return resolved & over_ip

    # --- what it shows ---

    def targets(self) -> Iterator[tuple[Place, int, int]]:
        """Each kept target, its kinds and its answers, in the order of their first touches.

        ARP and neighbour solicitations are left out of a decky that was touched over IP too,
        because whoever sends it packets must send those first.
        """
        mask = (1 << _ANSWER_SHIFT) - 1
        resolved = self._resolved()
        for target, found in self._targets:
            decky, protocol, _ = target
            if protocol or decky not in resolved:
                yield target, found & mask, found >> _ANSWER_SHIFT

    def kinds(self) -> list[ProbeKind]:
        """The kinds of its probes."""
        return [kind for kind, count in sorted(self.probes.items()) if count]

    def deckies(self) -> list[bytes]:
        """The deckies that it has touched, as far as their targets are kept."""
        return self._targets.deckies()

    def answered(self) -> tuple[list[Place], list[Place], int]:
        """Targets that are open, those that are closed, and how many said nothing."""
        answers = [(target, answers) for target, _, answers in self.targets()]
        is_open = [one for one, answer in answers if answer >> Answer.OPEN & 1]
        is_closed = [one for one, answer in answers if _is_closed(answer)]
        return is_open, is_closed, len(answers) - len(is_open) - len(is_closed)


def _packed(probes: Mapping[ProbeKind, int]) -> _Counts:
    return tuple([number for pair in sorted(probes.items()) for number in pair])


def _unpacked(counts: _Counts) -> Counter[ProbeKind]:
    return Counter(dict(zip(map(ProbeKind, counts[::2]), counts[1::2], strict=True)))


def _is_closed(answer: int) -> bool:
    return bool(answer >> Answer.CLOSED & 1) and not answer >> Answer.OPEN & 1
