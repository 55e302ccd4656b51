"""Puts IP fragments together as Linux does (inet_fragment.c, ip_fragment.c, ip6 reassembly.c).

Fragments of one datagram in any order make the packet. A fragment that repeats bytes of one run is
dropped; a run is what came in order at the end, or any other fragment alone. A fragment that
overlaps otherwise, is empty, or disagrees about the datagram's length drops the datagram whole. The
next fragment of the same identification then begins a new one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from enum import Enum, auto
from struct import Struct
from typing import NamedTuple

from deckwire.ip.fragment import DF, IPV6_BYTES, LONGEST, Fragment, Key, checksum
from deckwire.limits import (
    FRAGMENT_BYTES,
    FRAGMENT_DATAGRAMS,
    FRAGMENT_SOURCE_BYTES,
    FRAGMENT_SOURCE_DATAGRAMS,
)

DATAGRAM_BYTES, PIECE_BYTES = 1_400, 160
"""Bytes of memory that a waiting datagram and each of its fragments take without their data."""
SECONDS_NS = {4: 30_000_000_000, 6: 60_000_000_000}
"""How long a datagram waits for its fragments, by IP version (IP_FRAG_TIME, IPV6_FRAG_TIMEOUT)."""
FARTHEST = 64
"""If more fragments of one IPv4 source come between two of a datagram, those before are dropped
(net.ipv4.ipfrag_max_dist)."""

_NOT_ECT, _CE = 1 << 0, 1 << 3
"""Values of the ECN field that were seen, one bit each."""
_U16 = Struct("!H")


class Whole(NamedTuple):
    """A packet put together, in a frame with the link header of its first fragment."""

    frame: bytes
    l3_off: int
    fragments: int


class _Placed(Enum):
    NEW = auto()
    DUPLICATE = auto()
    OVERLAP = auto()


class _Datagram:
    """The fragments of one datagram that have come so far (struct inet_frag_queue)."""

    __slots__ = (
        "born_ns",
        "data_len",
        "ecn",
        "head",
        "held",
        "l3_off",
        "largest",
        "largest_df",
        "last_seen",
        "length",
        "pieces",
        "run_ends",
        "run_starts",
        "sequence",
        "source",
    )

    def __init__(self, source: bytes, now_ns: int) -> None:
        self.source = source
        self.largest = self.largest_df = 0
        self.sequence = 0
        """The number of its latest fragment among all of its sender."""
        self.begin(now_ns)

    def begin(self, now_ns: int) -> None:
        self.born_ns = now_ns
        self.head: bytes | None = None
        self.l3_off = 0
        self.pieces: list[tuple[int, bytes]] = []
        self.run_starts: list[int] = []
        self.run_ends: list[int] = []
        self.length = 0
        self.last_seen = False
        self.data_len = 0
        self.ecn = 0
        self.held = DATAGRAM_BYTES

    def agrees(self, fragment: Fragment) -> bool:
        """Take what it says about the length; False if that contradicts those before it."""
        end = fragment.end
        if not fragment.more:
            if end < self.length or (self.last_seen and end != self.length):
                return False
            self.last_seen = True
            self.length = end
        elif end > self.length:
            if self.last_seen:
                return False
            self.length = end
        return bool(fragment.data)

    def place(self, start: int, end: int) -> _Placed:
        """Find the place of a fragment's bytes among the runs (inet_frag_queue_insert)."""
        starts, ends = self.run_starts, self.run_ends
        if not starts or start > ends[-1]:
            starts.append(start)
            ends.append(end)
            return _Placed.NEW
        if start == ends[-1]:
            ends[-1] = end
            return _Placed.NEW
        after = bisect_right(starts, start)
        if after and start < ends[after - 1]:
            return _Placed.DUPLICATE if end <= ends[after - 1] else _Placed.OVERLAP
        if after < len(starts) and end > starts[after]:
            return _Placed.OVERLAP
        starts.insert(after, start)
        ends.insert(after, end)
        return _Placed.NEW

    def add(self, fragment: Fragment) -> None:
        """Keep a fragment that place() found new."""
        self.pieces.append((fragment.start, fragment.data))
        self.data_len += len(fragment.data)
        self.ecn |= 1 << fragment.ecn
        self.held += len(fragment.data) + PIECE_BYTES
        self.largest = max(self.largest, fragment.size)
        if fragment.df:
            self.largest_df = max(self.largest_df, fragment.size)
        if not fragment.start:
            self.head, self.l3_off = fragment.head, fragment.l3_off
            self.held += len(fragment.head)

    @property
    def complete(self) -> bool:
        return self.last_seen and self.head is not None and self.data_len == self.length

    def packet(self) -> Whole | None:
        """The packet; None if Linux refuses it: too long, or its ECN fields cannot be of one."""
        head, l3_off = bytearray(self.head or b""), self.l3_off
        if self.ecn & _NOT_ECT and self.ecn != _NOT_ECT:
            return None
        congested = bool(self.ecn & _CE)
        headers = len(head) - l3_off
        if head[l3_off] >> 4 == 4:
            if headers + self.length > LONGEST:
                return None
            _U16.pack_into(head, l3_off + 2, headers + self.length)
            # The packet may be fragmented on only if its largest fragment could have been.
            _U16.pack_into(head, l3_off + 6, DF if self.largest_df == self.largest else 0)
            head[l3_off + 1] |= 3 if congested else 0
            _U16.pack_into(head, l3_off + 10, 0)
            _U16.pack_into(head, l3_off + 10, checksum(bytes(head[l3_off:])))
        else:
            payload_len = headers - IPV6_BYTES + self.length
            if payload_len > LONGEST:
                return None
            _U16.pack_into(head, l3_off + 4, payload_len)
            head[l3_off + 1] |= 0x30 if congested else 0
        self.pieces.sort()
        data = b"".join(data for _, data in self.pieces)
        return Whole(bytes(head) + data, l3_off, len(self.pieces))


class _Source:
    """What one source has waiting."""

    __slots__ = ("held", "keys", "sent")

    def __init__(self) -> None:
        self.held = 0
        self.keys: dict[Key, None] = {}
        """Its datagrams, the oldest first."""
        self.sent: dict[bytes, int] = {}
        """Its IPv4 fragments since it has something waiting, by both addresses."""


class Reassembler:
    """Waiting datagrams, bounded by source and in total. It reads no clock."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Fragments by their fate."""
        self.held = 0
        """Bytes of memory of all that waits, about."""
        self._datagrams: dict[int, OrderedDict[Key, _Datagram]] = {
            4: OrderedDict(),
            6: OrderedDict(),
        }
        """By IP version, the oldest first."""
        self._sources: dict[bytes, _Source] = {}

    def __len__(self) -> int:
        return sum(map(len, self._datagrams.values()))

    @property
    def waiting(self) -> int:
        """Fragments that wait for others of their datagrams."""
        return sum(
            len(datagram.pieces)
            for datagrams in self._datagrams.values()
            for datagram in datagrams.values()
        )

    def take(self, fragment: Fragment, now_ns: int) -> Whole | None:
        """Take a fragment that came at `now_ns`; return the packet that it completes."""
        self.expire(now_ns)
        key, datagrams = fragment.key, self._datagrams[fragment.ip_version]
        datagram = datagrams.get(key)
        if datagram is None:
            datagram = datagrams[key] = _Datagram(fragment.source, now_ns)
            source = self._sources.setdefault(fragment.source, _Source())
            source.keys[key] = None
            self._hold(source, datagram.held)
        else:
            source = self._sources[fragment.source]
        if fragment.ip_version == 4:
            self._keep_near(datagram, source, key, now_ns)
        if not datagram.agrees(fragment):
            self._drop(fragment, "inconsistent")
            return None
        placed = datagram.place(fragment.start, fragment.end)
        if placed is _Placed.DUPLICATE:
            self.counts["duplicate"] += 1
            return None
        if placed is _Placed.OVERLAP:
            self._drop(fragment, "overlap")
            return None
        before = datagram.held
        datagram.add(fragment)
        self._hold(source, datagram.held - before)
        if datagram.complete:
            self._forget(fragment.ip_version, key)
            whole = datagram.packet()
            fate = "refused" if whole is None else "reassembled"
            self.counts[fate] += len(datagram.pieces)
            return whole
        self._keep_bounds(source)
        return None

    def expire(self, now_ns: int) -> None:
        """Drop the datagrams whose time is over."""
        for version, datagrams in self._datagrams.items():
            while datagrams:
                key, datagram = next(iter(datagrams.items()))
                if now_ns - datagram.born_ns < SECONDS_NS[version]:
                    break
                self.counts["expired"] += len(datagram.pieces)
                self._forget(version, key)

    def _keep_near(self, datagram: _Datagram, source: _Source, key: Key, now_ns: int) -> None:
        """Begin a datagram anew if its sender has sent too many others (ip_frag_too_far)."""
        _, addresses, _ = key
        sequence = source.sent[addresses] = source.sent.get(addresses, 0) + 1
        distance, datagram.sequence = sequence - datagram.sequence, sequence
        if not datagram.pieces or distance <= FARTHEST:
            return
        self.counts["too_far"] += len(datagram.pieces)
        before = datagram.held
        datagram.begin(now_ns)
        self._hold(source, datagram.held - before)
        self._datagrams[4].move_to_end(key)

    def _drop(self, fragment: Fragment, cause: str) -> None:
        """Drop a datagram whole because of this fragment, which is not in it."""
        datagram = self._forget(fragment.ip_version, fragment.key)
        self.counts[cause] += len(datagram.pieces) + 1

    def _keep_bounds(self, source: _Source) -> None:
        """Evict the oldest datagrams: of the source, then of all."""
        while len(source.keys) > FRAGMENT_SOURCE_DATAGRAMS or source.held > FRAGMENT_SOURCE_BYTES:
            self._evict(next(iter(source.keys)))
        while len(self) > FRAGMENT_DATAGRAMS or self.held > FRAGMENT_BYTES:
            oldest = min(
                (
                    next(iter(datagrams.items()))
                    for datagrams in self._datagrams.values()
                    if datagrams
                ),
                key=lambda item: item[1].born_ns,
            )
            self._evict(oldest[0])

    def _evict(self, key: Key) -> None:
        version = 4 if key in self._datagrams[4] else 6
        self.counts["evicted"] += len(self._forget(version, key).pieces)

    def _forget(self, version: int, key: Key) -> _Datagram:
        datagram = self._datagrams[version].pop(key)
        source = self._sources[datagram.source]
        del source.keys[key]
        self._hold(source, -datagram.held)
        if not source.keys:
            del self._sources[datagram.source]
        return datagram

    def _hold(self, source: _Source, more: int) -> None:
        source.held += more
        self.held += more
