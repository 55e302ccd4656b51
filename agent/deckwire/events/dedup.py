"""Deduplication: emit one event for each source, event and fingerprint, and count its repeats.

A flood from spoofed sources opens a window with each packet. So a window costs little until it
suppresses something: its key as one string, and the time at which it was opened.

Windows are bounded in number and in bytes. If there is no room, the oldest window is evicted. A
window that has suppressed something is passed over, because its source comes again, unlike those
of a spoofed flood. Such windows may be half of all. Beyond that, the oldest of them is evicted.

A source may have a bounded number of windows for one kind of event. More keys are not suppressed
for good, because the bound would then conceal what is new: one new key a second is emitted still,
and the summary of the rest names the first of them.

Therefore a source that sends one packet evicts only windows that have nothing to report. To evict
the others, an attacker must send two events for each window. That gains little: one event is
emitted once more, and a summary is emitted earlier. An eviction loses nothing and is counted.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from sys import getsizeof

from deckwire.events.context import UNSEEN
from deckwire.events.event import Event, Field, Headline
from deckwire.events.timestamp import timestamp
from deckwire.limits import (
    DEDUP_BYTES,
    DEDUP_ENTRIES,
    DEDUP_HOSTS,
    DEDUP_KEY,
    DEDUP_KEY_SLOTS,
    DEDUP_KEYS,
    DEDUP_LABEL,
    DEDUP_LABELS,
    DEDUP_SUMMARIES,
)
from deckwire.tcp.flow import FlowSums

TTL_S = 300.0

_NS = 1_000_000_000
_DIGEST_BYTES = 16
_WINDOW_BYTES = 136
"""Memory of a window in addition to its key: entries in a dictionary and a queue, and a time."""
_SUPPRESSED_BYTES = 360
"""Memory that is added once it suppresses something: _Window, its numbers and one decky."""

_NEW_KEYS_NS = _NS
"""Time between two events with new keys of a source that has too many."""
_UNPROVEN = "~"
"""Ends the name in keys of events that anybody can have forged, so that they share no window, and
no bound of keys, with others."""
_REST = "*"
"""The fingerprint of the window for keys beyond the bound. No event has it."""

Key = str
"""Source, event and fingerprint, with a space after each of the first two, which contain none."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What one window suppressed since its last summary: at least one event.

    Each suppressed event is in one summary only, so sums over summaries count none twice. Times are
    those of the suppressed events.
    """

    event: str
    """Its name; ``~`` follows if anybody can have forged the events."""
    source: str
    key: str
    count: int
    deckies: int
    """How many deckies; 0 if DEDUP_HOSTS left no room to remember any."""
    first_seen_ns: int
    last_seen_ns: int
    sums: FlowSums | None = None
    """The figures of the suppressed connections."""
    labels: tuple[str, ...] = ()
    """The first names among keys beyond the bound."""

    def emitted(self, host: str, now_ns: int) -> Event:
        """Make the `dedup_summary` event, emitted at `now_ns` by the host named `host`."""
        return Event(
            name="dedup_summary",
            time_ns=now_ns,
            host=host,
            parts=(
                ("event", self.event.removesuffix(_UNPROVEN)),
                ("src_ip", self.source),
                ("key", self.key),
                ("count", self.count),
                *((("deckies", self.deckies),) if self.deckies else ()),
                ("first_seen", timestamp(self.first_seen_ns)),
                ("last_seen", timestamp(self.last_seen_ns)),
                *_figures(self.sums),
                *((UNSEEN,) if self.event.endswith(_UNPROVEN) else ()),
                *((("names", self.labels),) if self.labels else ()),
            ),
            source=self.source,
            subject=f"{self.event} {self.source} {self.first_seen_ns} {self.key}",
        )


@dataclass(slots=True)
class Counters:
    """Sums since the start."""

    suppressed: int = 0
    """Events that were not admitted."""
    evicted: int = 0
    """Windows closed before their time because of DEDUP_ENTRIES or DEDUP_BYTES."""
    summaries_lost: int = 0
    """Summaries dropped because DEDUP_SUMMARIES waited for `expired` already."""
    hosts_ignored: int = 0
    """Deckies not remembered because of DEDUP_HOSTS. Counts of deckies are too low by these."""


class Dedup:
    """Open windows by (source, name, fingerprint), in the order in which they were opened.

    A window opens at the time of the first event emitted. It lasts `ttl_s` seconds and is not
    renewed; 0 turns deduplication off. Time is that of the events, so a replay runs on the clock of
    the capture. An event from outside its window closes it and those opened before it. Such an
    event is later, or so much earlier that the clock must have been set back.
    """

    def __init__(
        self,
        ttl_s: float = TTL_S,
        entries: int = DEDUP_ENTRIES,
        held: int = DEDUP_BYTES,
        hosts: int = DEDUP_HOSTS,
        summaries: int = DEDUP_SUMMARIES,
        keys: int = DEDUP_KEYS,
    ) -> None:
        """`keys` bounds the distinct keys of a source and event in open windows; 0: no bound."""
        self.counters = Counters()
        self._ttl_ns = round(ttl_s * _NS)
        self._entries = entries
        self._bytes = held
        self._hosts_left = hosts
        self._summaries = summaries
        self._windows: dict[Key, int | _Window] = {}
        """A window that has suppressed nothing is only the time at which it was opened."""
        self._order: deque[Key] = deque()
        """Windows in the order of their opening, without those in `_kept`."""
        self._kept: deque[Key] = deque()
        """Windows that an eviction has passed over, in the same order."""
        self._keys = keys
        self._counts = array("H", bytes(2 * DEDUP_KEY_SLOTS))
        """Open windows by hashed source and event. Python seeds its hashes, so nobody can aim."""
        self._held = 0
        self._closed: list[tuple[Key, _Window]] = []

    def __len__(self) -> int:
        return len(self._windows)

    def change(self, ttl_s: float, keys: int) -> None:
        """Other bounds for the windows that open from now on. None may be open."""
        self._ttl_ns = round(ttl_s * _NS)
        self._keys = keys

    @property
    def held(self) -> int:
        """Bytes of memory that all windows take, without the names of deckies."""
        return self._held

    def admit(self, event: Event | Headline) -> bool:
        """Whether `event` is to be emitted. If not, this counts it in its window."""
        if not self._windows:  # always so if deduplication is off
            return True
        found = self._find(event)
        time_ns = event.time_ns
        if found is not None and abs(time_ns - _opened_ns(found[1])) >= self._ttl_ns:
            self._close_up_to(found[0])
            found = None
        if found is None:
            rest = self._rest_of(event)
            if rest is None:
                return True
            found = rest
            self._note_label(rest[1], event.label)
        key, window = found
        self.counters.suppressed += 1
        if isinstance(window, int):
            window = self._suppressing(key, window)
        window.suppress(1, time_ns, time_ns)
        window.add(event.sums)
        if event.host not in window.hosts:
            self._remember(window, event.host)
        return False

    def emitted(self, event: Event | Headline) -> tuple[Key, int] | None:
        """Open the window of an event that was admitted and that an output accepted.

        Returns the window and its end, as `window` does.
        """
        if not self._ttl_ns:
            return None
        key = _key(event)
        if key is None:
            return None
        window = self._windows.get(key)
        if window is not None:
            return key, _opened_ns(window) + self._ttl_ns
        slot = _slot(event.source, _name(event))
        beyond = self._keys and self._counts[slot] >= self._keys
        self._windows[key] = event.time_ns
        self._order.append(key)
        self._counts[slot] += 1
        self._held += _WINDOW_BYTES + getsizeof(key)
        if beyond:
            self._note_new(event)
        self._evict_excess()
        return key, event.time_ns + self._ttl_ns

    def window(self, event: Event | Headline) -> tuple[Key, int] | None:
        """The open window of the event and the time at which it ends; None if there is none."""
        found = self._find(event)
        return None if found is None else (found[0], _opened_ns(found[1]) + self._ttl_ns)

    def add_suppressed(
        self,
        key: Key,
        *,
        count: int,
        first_ns: int,
        last_ns: int,
        deckies: int,
        sums: FlowSums | None = None,
    ) -> None:
        """Add what the kernel suppressed because of this window.

        If the window has closed meanwhile, another summary is made. `deckies` is a bit set of
        hashed deckies.
        """
        window = self._windows.get(key)
        if window is None:
            window = _Window(first_ns)
            self._sum_up(key, window)
        elif isinstance(window, int):
            window = self._suppressing(key, window)
        window.suppress(count, first_ns, last_ns)
        window.hashed_hosts |= deckies
        window.add(sums)

    def expired(self, now_ns: int) -> Iterator[Summary]:
        """Close the windows that are over at `now_ns`; give all summaries since the last call.

        It looks at windows from the oldest to the first that is still open, so it costs as much as
        it closes. Event times are nearly monotone, so a window after that one closes a little late.
        """
        for queue in (self._kept, self._order):
            while queue and abs(now_ns - _opened_ns(self._windows[queue[0]])) >= self._ttl_ns:
                self._close(queue.popleft())
                yield from self._take()
        yield from self._take()

    def close(self) -> Iterator[Summary]:
        """Close all windows at shutdown; give their summaries."""
        for queue in (self._kept, self._order):
            while queue:
                self._close(queue.popleft())
                yield from self._take()
        yield from self._take()

    def crowded(self) -> int | None:
        """The end of the last window that `make_room` would evict; None if there is room left.

        It gives a time already at 15/16 of the bounds. So the caller can first add what the kernel
        suppressed because of these windows.
        """
        if len(self._windows) <= _share(self._entries, 15) and (
            self._held <= _share(self._bytes, 15)
        ):
            return None
        if not self._order:
            return _opened_ns(self._windows[self._kept[0]]) + self._ttl_ns
        last = self._order[min(len(self._order) - 1, len(self._windows) // 8)]
        return _opened_ns(self._windows[last]) + self._ttl_ns

    def make_room(self, end_ns: int) -> Iterator[Summary]:
        """Evict windows that end by `end_ns`, at most an eighth of all; give their summaries."""
        while len(self._windows) > _share(self._entries, 14) or (
            self._held > _share(self._bytes, 14)
        ):
            oldest = (self._order or self._kept)[0]
            if _opened_ns(self._windows[oldest]) + self._ttl_ns > end_ns:
                break
            self._evict()
            yield from self._take()

    def _find(self, event: Event | Headline) -> tuple[Key, int | _Window] | None:
        """The open window of the event's key."""
        if not self._windows:  # no key is needed
            return None
        key = _key(event)
        window = self._windows.get(key) if key is not None else None
        return None if key is None or window is None else (key, window)

    def _rest_of(self, event: Event | Headline) -> tuple[Key, _Window] | None:
        """The window that suppresses a new key; None if the event is to be emitted."""
        if (
            not self._keys
            or event.fingerprint is None
            or self._counts[_slot(event.source, _name(event))] < self._keys
        ):
            return None
        key = f"{event.source} {_name(event)} {_REST}"
        window = self._windows.get(key)
        if not isinstance(window, _Window):
            return None
        if abs(event.time_ns - window.opened_ns) >= self._ttl_ns:
            self._close_up_to(key)
            return None
        if event.time_ns - window.newest_ns >= _NEW_KEYS_NS:
            return None
        return key, window

    def _note_new(self, event: Event | Headline) -> None:
        """An event with a key beyond the bound was emitted: the next ones wait."""
        key = f"{event.source} {_name(event)} {_REST}"
        window = self._windows.get(key)
        if not isinstance(window, _Window):
            window = self._windows[key] = _Window(event.time_ns)
            self._order.append(key)
            self._counts[_slot(event.source, _name(event))] += 1
            self._held += _WINDOW_BYTES + getsizeof(key) + _SUPPRESSED_BYTES
        window.newest_ns = event.time_ns

    def _note_label(self, window: _Window, label: str) -> None:
        """Keep a name for the summary, if it is new and there is room."""
        label = label[:DEDUP_LABEL]
        if label and len(window.labels) < DEDUP_LABELS and label not in window.labels:
            window.labels = (*window.labels, label)
            self._held += _label_bytes(label)

    def _suppressing(self, key: Key, opened_ns: int) -> _Window:
        """Turn a window that suppresses something for the first time into a _Window."""
        window = self._windows[key] = _Window(opened_ns)
        self._held += _SUPPRESSED_BYTES
        self._evict_excess()
        return window

    def _remember(self, window: _Window, host: str) -> None:
        hosts = window.hosts
        if not hosts:
            window.hosts = (host,)
            return
        more = 1 if isinstance(hosts, set) else 2
        if more > self._hosts_left:
            self.counters.hosts_ignored += 1
            return
        self._hosts_left -= more
        if isinstance(hosts, set):
            hosts.add(host)
        else:
            window.hosts = {*hosts, host}

    def _evict_excess(self) -> None:
        while len(self._windows) > self._entries or self._held > self._bytes:
            self._evict()

    def _evict(self) -> None:
        """Close one window, usually the oldest that has suppressed nothing: see the module."""
        self.counters.evicted += 1
        while self._order:
            key = self._order.popleft()
            window = self._windows[key]
            if isinstance(window, int):
                self._close(key)
                return
            window.kept = True
            self._kept.append(key)
            if 2 * len(self._kept) > len(self._windows):
                break
        self._close(self._kept.popleft())

    def _close_up_to(self, key: Key) -> None:
        """Close a window and those opened before it, which are over too. No queue is searched."""
        window = self._windows[key]
        queue = self._order if isinstance(window, int) or not window.kept else self._kept
        while key in self._windows:
            self._close(queue.popleft())

    def _close(self, key: Key) -> None:
        """Drop a window that has been taken from its queue."""
        window = self._windows.pop(key)
        source, name, _ = key.split(" ", 2)
        self._counts[_slot(source, name)] -= 1
        self._held -= _WINDOW_BYTES + getsizeof(key)
        if isinstance(window, int):
            return
        self._held -= _SUPPRESSED_BYTES + sum(map(_label_bytes, window.labels))
        if isinstance(window.hosts, set):
            self._hosts_left += len(window.hosts)
        if window.count:
            self._sum_up(key, window)

    def _sum_up(self, key: Key, window: _Window) -> None:
        if len(self._closed) >= self._summaries:
            self.counters.summaries_lost += 1
        else:
            self._closed.append((key, window))

    def _take(self) -> Iterator[Summary]:
        if not self._closed:
            return
        closed, self._closed = self._closed, []
        for key, window in closed:
            source, name, fingerprint = key.split(" ", 2)
            yield Summary(
                event=name,
                source=source,
                key=fingerprint,
                count=window.count,
                deckies=max(len(window.hosts), window.hashed_hosts.bit_count()),
                first_seen_ns=window.first_ns,
                last_seen_ns=window.last_ns,
                sums=window.sums,
                labels=window.labels,
            )


class _Window:
    """A window that has suppressed something: how much, when, and on which deckies."""

    __slots__ = (
        "count",
        "first_ns",
        "hashed_hosts",
        "hosts",
        "kept",
        "labels",
        "last_ns",
        "newest_ns",
        "opened_ns",
        "sums",
    )

    def __init__(self, opened_ns: int) -> None:
        self.opened_ns = opened_ns
        self.count = 0
        self.first_ns = 0
        self.last_ns = 0
        self.hashed_hosts = 0  # bits of hashed deckies on which the kernel suppressed SYNs
        # Most windows have one decky, and a set would be their largest part.
        self.hosts: set[str] | tuple[str, ...] = ()
        self.kept = False  # in Dedup._kept
        self.newest_ns = opened_ns  # of keys beyond the bound: when one was emitted last
        self.labels: tuple[str, ...] = ()
        self.sums: FlowSums | None = None

    def suppress(self, count: int, first_ns: int, last_ns: int) -> None:
        if not self.count or first_ns < self.first_ns:
            self.first_ns = first_ns
        if not self.count or last_ns > self.last_ns:
            self.last_ns = last_ns
        self.count += count

    def add(self, sums: FlowSums | None) -> None:
        """Add the figures of suppressed connections."""
        if sums is not None:
            self.sums = sums if self.sums is None else self.sums.plus(sums)


def _opened_ns(window: int | _Window) -> int:
    return window if isinstance(window, int) else window.opened_ns


def _name(event: Event | Headline) -> str:
    return event.name if event.proven else event.name + _UNPROVEN


def _slot(source: str, name: str) -> int:
    return hash((source, name)) % DEDUP_KEY_SLOTS


def _label_bytes(label: str) -> int:
    return getsizeof(label) + 8


def _figures(sums: FlowSums | None) -> tuple[Field, ...]:
    if sums is None:
        return ()
    longest: tuple[Field, ...] = ()
    if sums.longest_ns is not None:
        longest = (("longest_s", round(sums.longest_ns / 1e9, 3)),)
    return (
        ("packets", sums.packets),
        ("bytes", sums.bytes),
        *longest,
        ("largest_bytes", sums.largest),
    )


def _share(bound: int, sixteenths: int) -> int:
    return bound * sixteenths // 16


def _key(event: Event | Headline) -> Key | None:
    """The key of the event's window. A peer chooses the fingerprint, so a long one is hashed."""
    fingerprint = event.fingerprint
    if fingerprint is None:
        return None
    if len(fingerprint) > DEDUP_KEY:
        digest = blake2b(fingerprint.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES)
        kept = DEDUP_KEY - 2 * _DIGEST_BYTES - len("...")
        fingerprint = f"{fingerprint[:kept]}...{digest.hexdigest()}"
    return f"{event.source} {_name(event)} {fingerprint}"
