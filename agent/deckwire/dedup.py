"""Deduplication: one telling a window of source, event and fingerprint, and what it hid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from deckwire.event import Event, Headline
from deckwire.limits import DEDUP_ENTRIES, DEDUP_HOSTS, DEDUP_KEY
from deckwire.timestamp import timestamp

TTL_S = 300.0

_NS = 1_000_000_000
_DIGEST_BYTES = 16

Key = tuple[str, str, str]
"""Source, event and fingerprint."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What one window suppressed: at least one event. Times are of the events suppressed."""

    event: str
    source: str
    key: str
    count: int
    deckies: int
    """0 if none of them could be remembered: see DEDUP_HOSTS."""
    first_seen_ns: int
    last_seen_ns: int

    def told(self, host: str, now_ns: int) -> Event:
        """The `dedup_summary` event, emitted at `now_ns` by the host named `host`."""
        return Event(
            name="dedup_summary",
            time_ns=now_ns,
            host=host,
            parts=(
                ("event", self.event),
                ("src_ip", self.source),
                ("key", self.key),
                ("count", self.count),
                *((("deckies", self.deckies),) if self.deckies else ()),
                ("first_seen", timestamp(self.first_seen_ns)),
                ("last_seen", timestamp(self.last_seen_ns)),
            ),
            source=self.source,
        )


@dataclass(slots=True)
class Counters:
    """Sums since the start."""

    suppressed: int = 0
    """Events that were not admitted."""
    evicted: int = 0
    """Windows closed before their time because DEDUP_ENTRIES were open."""
    summaries_lost: int = 0
    """Summaries dropped because nobody took them by `expired` (DEDUP_ENTRIES may wait)."""
    hosts_ignored: int = 0
    """Deckies not remembered because DEDUP_HOSTS were: counts of deckies are too low by these."""


class Dedup:
    """Open windows by (source, name, fingerprint), in the order in which they were opened.

    A window opens at the time of the first event told, lasts `ttl_s` seconds and is not renewed;
    0 turns deduplication off. Time is the events' own, so a replay runs on the capture's clock.
    An event from outside its window, be it later or so much earlier that the clock must have been
    set back, ends it.
    """

    def __init__(
        self, ttl_s: float = TTL_S, entries: int = DEDUP_ENTRIES, hosts: int = DEDUP_HOSTS
    ) -> None:
        self.counters = Counters()
        self._ttl_ns = round(ttl_s * _NS)
        self._entries = entries
        self._hosts_left = hosts
        self._windows: OrderedDict[Key, _Window] = OrderedDict()
        self._closed: list[Summary] = []

    def __len__(self) -> int:
        return len(self._windows)

    def admit(self, event: Event | Headline) -> bool:
        """Whether `event` is to be told; if not, it has been counted in its window."""
        found = self._find(event)
        if found is None:
            return True
        key, window = found
        if self._is_over(window, event.time_ns):
            self._close(key)
            return True
        self.counters.suppressed += 1
        window.suppress(1, event.time_ns, event.time_ns)
        self._remember(window, event.host)
        return False

    def told(self, event: Event) -> tuple[Key, int] | None:
        """Open the window of an event that was admitted and that an output accepted.

        It and its end, as `window` tells them.
        """
        if not self._ttl_ns:
            return None
        key = _key(event)
        if key is None:
            return None
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= self._entries:
                self.counters.evicted += 1
                self._close(next(iter(self._windows)))
            window = self._windows[key] = _Window(event.time_ns)
        return key, window.opened_ns + self._ttl_ns

    def window(self, event: Event | Headline) -> tuple[Key, int] | None:
        """The open window that the event belongs to and when it ends; None if there is none."""
        found = self._find(event)
        return None if found is None else (found[0], found[1].opened_ns + self._ttl_ns)

    def add_suppressed(
        self, key: Key, *, count: int, first_ns: int, last_ns: int, deckies: int
    ) -> None:
        """What was suppressed elsewhere because of this window, which may have closed meanwhile.

        `deckies` is a bit set of hashed deckies.
        """
        window = self._windows.get(key)
        if window is None:
            return
        window.suppress(count, first_ns, last_ns)
        window.sketch |= deckies

    def expired(self, now_ns: int) -> list[Summary]:
        """Close the windows that are over at `now_ns`; all summaries since the last call.

        Costs as much as it closes: windows are looked at oldest first, up to the first that is
        still open. Event times are nearly monotone, so one behind that is at most a little late.
        """
        for key, window in self._oldest():
            if not self._is_over(window, now_ns):
                break
            self._close(key)
        return self._take()

    def close(self) -> list[Summary]:
        """Close all windows: what is left to be told at shutdown."""
        for key, _ in self._oldest():
            self._close(key)
        return self._take()

    def _find(self, event: Event | Headline) -> tuple[Key, _Window] | None:
        """The open window of the event's key."""
        if not self._windows:  # always, where deduplication is off: no key is needed
            return None
        key = _key(event)
        window = self._windows.get(key) if key is not None else None
        return None if key is None or window is None else (key, window)

    def _remember(self, window: _Window, host: str) -> None:
        if host in window.hosts:
            return
        if not self._hosts_left:
            self.counters.hosts_ignored += 1
            return
        self._hosts_left -= 1
        if isinstance(window.hosts, set):
            window.hosts.add(host)
        else:
            window.hosts = {host}

    def _oldest(self) -> Iterator[tuple[Key, _Window]]:
        """The oldest window, again and again while its predecessor is being closed."""
        while self._windows:
            key = next(iter(self._windows))
            yield key, self._windows[key]

    def _is_over(self, window: _Window, time_ns: int) -> bool:
        return abs(time_ns - window.opened_ns) >= self._ttl_ns

    def _close(self, key: Key) -> None:
        window = self._windows.pop(key)
        self._hosts_left += len(window.hosts)
        if not window.count:
            return
        if len(self._closed) >= self._entries:
            self.counters.summaries_lost += 1
            return
        source, name, fingerprint = key
        self._closed.append(
            Summary(
                event=name,
                source=source,
                key=fingerprint,
                count=window.count,
                deckies=max(len(window.hosts), window.sketch.bit_count()),
                first_seen_ns=window.first_ns,
                last_seen_ns=window.last_ns,
            )
        )

    def _take(self) -> list[Summary]:
        closed, self._closed = self._closed, []
        return closed


class _Window:
    """One open window; `first_ns`, `last_ns` and `hosts` tell of the events it suppressed."""

    __slots__ = ("count", "first_ns", "hosts", "last_ns", "opened_ns", "sketch")

    def __init__(self, opened_ns: int) -> None:
        self.opened_ns = opened_ns
        self.count = 0
        self.first_ns = 0
        self.last_ns = 0
        self.sketch = 0  # bits of hashed deckies on which SYNs were suppressed in the kernel
        # Most windows suppress nothing, and a set of their own would be their largest part.
        self.hosts: set[str] | frozenset[str] = frozenset()

    def suppress(self, count: int, first_ns: int, last_ns: int) -> None:
        self.first_ns = min(self.first_ns, first_ns) if self.count else first_ns
        self.last_ns = max(self.last_ns, last_ns) if self.count else last_ns
        self.count += count


def _key(event: Event | Headline) -> Key | None:
    """The window's key; a long fingerprint (a peer's certificate names) costs no more memory."""
    fingerprint = event.fingerprint
    if fingerprint is None:
        return None
    if len(fingerprint) > DEDUP_KEY:
        digest = blake2b(fingerprint.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES)
        kept = DEDUP_KEY - 2 * _DIGEST_BYTES - len("...")
        fingerprint = f"{fingerprint[:kept]}...{digest.hexdigest()}"
    return event.source, event.name, fingerprint
