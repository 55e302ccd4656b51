"""Whether several deckies are one host: what a host has once, and an attacker can compare.

A TCP timestamp clock without a random offset for each connection (``net.ipv4.tcp_timestamps=2``,
older and other systems), a counter of IP identifications, or one of initial sequence numbers.
"""

from __future__ import annotations

from collections import defaultdict, deque
from itertools import pairwise
from typing import NamedTuple

from deckwire.limits import ANSWERING_DECKIES, ANSWERS_COMPARED, CLOCK_STAMPS
from deckwire.resilience.bounded import Bounded

_MASK = 0xFFFF_FFFF
_NS = 1_000_000_000
_RATES = (1_000, 250, 100)
"""Ticks a second of common timestamp clocks."""
_TOLERANCE_MS = 30
"""How far the values of one clock may be apart: ticks, and delays on the way."""
_STALE_NS = 600 * _NS
"""A stamp that is older is not compared, because two clocks drift."""
_DECKIES_ALONE = 3
_CLIENTS_OF_TWO = 2
"""What rules out a coincidence: as many deckies, or as many clients of each of two. Systems with
random offsets have another one for each client."""
_TOGETHER = 6
"""Numbers in a row that two deckies must have counted together."""
_TURNS = 3
"""How often these must pass from one decky to the other."""
_LOOKED_AT = 64
"""Stamps of one clock that are compared, the latest ones: there may be thousands."""
_REST_NS = _NS
"""A decky that shares a clock is compared again after so long, and so are a decky and a client that
were compared. A flood of connections would find the same each time."""
_SHOWN = 8
"""Deckies that an evidence names."""

_Key = tuple[str, bytes]
"""A decky's name and a client's address."""


class Sharing(NamedTuple):
    """Several deckies that share something."""

    deckies: dict[str, bytes]
    """The address at which each was seen, by name, sorted."""
    evidence: str


class _Stamp(NamedTuple):
    address: bytes
    """The decky's."""
    time_ns: int
    value: int


class SharedClocks:
    """Compares the TCP timestamps of deckies' SYN-ACK packets. For one thread."""

    def __init__(self) -> None:
        self._stamps: Bounded[_Key, _Stamp] = Bounded(CLOCK_STAMPS)
        """The last stamp of each decky and client."""
        self._at: dict[tuple[int, int], tuple[_Key, ...]] = {}
        """Stamps by rate and by the time at which such a clock was 0, the latest last.

        Of each decky there are _CLIENTS_OF_TWO, because more of them say no more. So a flood of
        clients of one decky takes neither time nor memory.
        """
        self._found: Bounded[str, int] = Bounded(ANSWERING_DECKIES)
        """Deckies that share a clock, with the time of the stamp that showed it last."""

    def take(
        self, decky: str, address: bytes, client: bytes, time_ns: int, value: int
    ) -> Sharing | None:
        """Take one stamp of a decky at an address to a client, 16 bytes each.

        Returns the deckies whose stamps are of the same clock, if it is shared.
        """
        if not value:
            # The sender has no clock (RFC 7323 allows it in an opening).
            return None
        key = decky, client
        last = self._stamps.get(key)
        if last is not None and 0 <= time_ns - last.time_ns < _REST_NS:
            # The same clock as just now: a client that comes again and again shows nothing new.
            return None
        if last is not None:
            self._remove(key, last)
        stamp = _Stamp(address, time_ns, value)
        evicted = self._stamps.put(key, stamp)
        if evicted is not None:
            self._remove(*evicted)
        self._add(key, stamp)
        before_ns = self._found.get(decky)
        if before_ns is not None and 0 <= time_ns - before_ns < _REST_NS:
            return None
        for rate in _RATES:
            found = self._shared(rate, key, stamp)
            if found is not None:
                self._found.put(decky, time_ns)
                return found
        return None

    def clear(self) -> None:
        """Forget all stamps, because the clock that they were taken by has jumped."""
        self._stamps.clear()
        self._at.clear()
        self._found.clear()

    def _shared(self, rate: int, own: _Key, stamp: _Stamp) -> Sharing | None:
        origin = _origin(rate, stamp)
        near = self._near(rate, origin, own[0], stamp.time_ns)
        if not near:
            return None
        clients: dict[str, set[bytes]] = defaultdict(set, {own[0]: {own[1]}})
        addresses = {own[0]: stamp.address}
        apart = 0
        for key, distance in near:
            clients[key[0]].add(key[1])
            addresses[key[0]] = self._stamps[key].address
            apart = max(apart, distance)
        if len(clients) < _DECKIES_ALONE and (
            len(clients) < 2 or min(map(len, clients.values())) < _CLIENTS_OF_TWO
        ):
            return None
        names = tuple(sorted(clients))
        seconds = stamp.value // rate
        return Sharing(
            {name: addresses[name] for name in names},
            f"{len(names)} deckies have one TCP timestamp clock of {rate} Hz: the stamps of"
            f" {_listed(names)} are {apart * 1_000 // rate} ms apart at most; the clock began"
            f" {seconds} s ago",
        )

    def _near(self, rate: int, origin: int, decky: str, now_ns: int) -> list[tuple[_Key, int]]:
        """The stamps of this clock and how many ticks each is away, unless all are the decky's."""
        width = _width(rate)
        slots = (_MASK // width) + 1
        keys: list[_Key] = []
        for slot in (-1, 0, 1):
            keys += self._at.get((rate, (origin // width + slot) % slots), ())
        if all(key[0] == decky for key in keys):
            return []
        found = []
        for key in keys:
            other = self._stamps[key]
            ahead = (_origin(rate, other) - origin) & _MASK
            distance = min(ahead, _MASK + 1 - ahead)
            if distance <= width and abs(now_ns - other.time_ns) <= _STALE_NS:
                found.append((key, distance))
        return found

    def _add(self, key: _Key, stamp: _Stamp) -> None:
        for place in _places(stamp):
            others = self._at.get(place, ())
            alike = [other for other in others if other[0] == key[0]]
            # Without the decky's own oldest one, or without the oldest of all.
            if len(alike) >= _CLIENTS_OF_TWO:
                others = _without(others, alike[0])
            elif len(others) >= _LOOKED_AT:
                others = others[1:]
            self._at[place] = (*others, key)

    def _remove(self, key: _Key, stamp: _Stamp) -> None:
        for place in _places(stamp):
            others = _without(self._at.get(place, ()), key)
            if others:
                self._at[place] = others
            else:
                self._at.pop(place, None)


class _Answer(NamedTuple):
    decky: str
    address: bytes
    value: int


class SharedCounters:
    """Compares IP identifications and initial sequence numbers of deckies. For one thread."""

    def __init__(self) -> None:
        self._ids = _Numbers("IP identifications", 0xFFFF, 64)
        # 64,000 a connection is the step of old BSDs, and 128,000 the one of each second.
        self._isns = _Numbers("initial sequence numbers", _MASK, 1 << 22)

    def take(
        self, decky: str, address: bytes, ip_id: int, isn: int
    ) -> tuple[Sharing | None, Sharing | None]:
        """Take the numbers of one SYN-ACK packet; IP identification 0 stands for none.

        The deckies that count identifications together, and those that count sequence numbers.
        """
        ids = self._ids.take(_Answer(decky, address, ip_id)) if ip_id else None
        return ids, self._isns.take(_Answer(decky, address, isn))


class _Numbers:
    """The numbers of one kind in the answers that are compared."""

    def __init__(self, what: str, mask: int, most: int) -> None:
        """`mask` is the greatest number. One counter advances by at most `most` at a time.

        Both are powers of two, but for the 1 that is missing in `mask`.
        """
        self._what = what
        self._mask = mask
        self._most = most
        self._last_range = mask // most
        self._answers: deque[_Answer] = deque()
        self._ranges: dict[int, int] = {}
        """The answers in each range of `most` numbers: most have none near them."""

    def __len__(self) -> int:
        return len(self._answers)

    def take(self, answer: _Answer) -> Sharing | None:
        """The deckies that count together, as this answer shows, if there are any."""
        answers, ranges = self._answers, self._ranges
        number = answer.value // self._most
        is_near = number in ranges or (number - 1) & self._last_range in ranges
        found = self._shared(answer) if is_near else None
        answers.append(answer)
        ranges[number] = ranges.get(number, 0) + 1
        if len(answers) > ANSWERS_COMPARED:
            oldest = answers.popleft().value // self._most
            left = ranges[oldest] - 1
            if left:
                ranges[oldest] = left
            else:
                del ranges[oldest]
        return found

    def _shared(self, answer: _Answer) -> Sharing | None:
        mask, most = self._mask, self._most
        others = {
            one.decky: one.address
            for one in self._answers
            if one.decky != answer.decky and 0 < (answer.value - one.value) & mask <= most
        }
        for other, address in sorted(others.items()):
            pair = {answer.decky: answer.address, other: address}
            row = [(one.decky, one.value) for one in self._answers if one.decky in pair]
            row = [*row[-_TOGETHER + 1 :], (answer.decky, answer.value)]
            if _counts(row, mask, most):
                values = " ".join(f"{number} ({name})" for name, number in row)
                return Sharing(
                    dict(sorted(pair.items())),
                    f"two deckies count {self._what} together: {values}",
                )
        return None


def _counts(row: list[tuple[str, int]], mask: int, most: int) -> bool:
    steps = list(pairwise(row))
    return (
        len(row) == _TOGETHER
        and all(0 < (new - old) & mask <= most for (_, old), (_, new) in steps)
        and sum(before != after for (before, _), (after, _) in steps) >= _TURNS
    )


def _width(rate: int) -> int:
    """Ticks of the tolerance."""
    return rate * _TOLERANCE_MS // 1_000


def _origin(rate: int, stamp: _Stamp) -> int:
    """When a clock of this rate was 0, in its ticks of the samples' clock, modulo its range."""
    return (stamp.value - stamp.time_ns * rate // _NS) & _MASK


def _places(stamp: _Stamp) -> list[tuple[int, int]]:
    """Where a stamp is among the others: with each rate, when its clock was 0."""
    return [(rate, _origin(rate, stamp) // _width(rate)) for rate in _RATES]


def _without(keys: tuple[_Key, ...], key: _Key) -> tuple[_Key, ...]:
    return tuple([other for other in keys if other != key])


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
