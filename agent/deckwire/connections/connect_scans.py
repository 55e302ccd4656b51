"""Find the connections of a connect scan by what their source does within a minute.

``nmap -sT`` connects through its host's kernel, so its SYNs are that kernel's. Only the end is
nmap's own. It closes with a linger time of zero, so its kernel resets the connection as soon as the
handshake is complete, and no byte has been sent. Ordinary clients close with FIN. They reset a
connection after data, or because they did not read the server's data.

One connection of that kind may also be a load balancer's health check. nmap touches several
services within a short time, and some of them do not respond. docs/systems.md has the rule and the
captures that it is based on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from deckwire.fingerprints.scanners import Tool
from deckwire.limits import SCAN_SERVICES, SCAN_SOURCES, SCAN_TOUCHES
from deckwire.resilience.bounded import Bounded
from deckwire.tcp.addresses import MAPPED_PREFIX
from deckwire.tcp.flow import Ends, FlowRecord

SERVICES = 3
"""Services that make a scan. Two may be a client that tries its next address or port."""
WINDOW_NS = 60_000_000_000
"""How long a service counts. Three probes at nmap's ``-T1``, 15 s apart, are within it."""
HOLD_NS = 3_000_000_000
"""How long the event of a connection waits, because what its source does next may name a tool."""
RESET_NS = 1_000_000_000
"""Longest time from the handshake to the reset. nmap's took at most 2 ms, and 82 ms on a busy
machine, at any round-trip time."""

_SUBNET_BYTES = 8
"""An IPv6 source is its /64, as in the kernel side."""


class Touch(NamedTuple):
    """A connection whose client sent no data and reset it at once."""

    key: bytes
    client: int
    """The end that opened it: 0 or 1."""
    ends: Ends
    record: FlowRecord
    proven: bool
    """Whether the reset cannot come from unread data: the server had sent none."""


class Attempt(NamedTuple):
    """An attempt to connect that got no SYN-ACK: refused, or dropped in silence."""

    ends: Ends
    time_ns: int


Verdict = tuple[Touch, Tool | None]
"""A connection whose event is due, and the tool that made it if that is known."""


def touch(key: bytes, client: int, ends: Ends, record: FlowRecord) -> Touch | None:
    """The connection as a touch, None if it is none; `client` is the end that opened it."""
    sent, received = record.sides[client], record.sides[1 - client]
    if record.close != "rst" or record.midstream or sent.bytes:
        return None
    if record.rtt_client_us is None or record.rtt_server_us is None:
        return None
    handshake_ns = 1_000 * (record.rtt_server_us + record.rtt_client_us)
    if record.last_ns - record.born_ns - handshake_ns > RESET_NS:
        return None
    # The server sent its SYN-ACK and perhaps one segment of data, so the reset is the client's.
    if received.packets - received.retransmits != (2 if received.bytes else 1):
        return None
    # Without data of the server the client sent SYN, ACK and RST. After such data, the kernel
    # also resets for every client that closes before it has read it.
    proven = not received.bytes
    if proven and sent.packets - sent.retransmits != 3:
        return None
    return Touch(key, client, ends, record, proven)


class ConnectScans:
    """The sources of touches, bounded; the one silent for longest is evicted. For one thread."""

    def __init__(self, counts: Counter[str]) -> None:
        """`counts` takes what a bound made room for, by cause."""
        self._counts = counts
        self._sources: Bounded[bytes, _Source] = Bounded(SCAN_SOURCES)
        self._waiting: dict[bytes, int] = {}
        """Sources with touches that wait, and until when; the wait of the first one ends first."""
        self._touches = 0

    @property
    def waiting(self) -> int:
        """Touches whose events are not due yet."""
        return self._touches

    def __len__(self) -> int:
        return len(self._sources)

    def take(self, found: Touch) -> list[Verdict]:
        """Take a touch; the verdicts that are due now, which need not include this one's."""
        name = _source_of(found.ends)
        source = self._sources.get(name)
        verdicts: list[Verdict] = []
        if source is None:
            source = _Source()
            evicted = self._sources.put(name, source)
            if evicted is not None:
                self._counts["scan_sources_evicted"] += 1
                verdicts += self._release(*evicted)
        else:
            self._sources.refresh(name)
        now_ns = found.record.last_ns
        source.expire(now_ns - WINDOW_NS)
        known = source.note(found.ends, _Seen.RESET if found.proven else _Seen.SILENT, now_ns)
        source.touches.append(found)
        self._touches += 1
        if source.tool() is not None or (known and name not in self._waiting):
            return verdicts + self._release(name, source)
        self._waiting.setdefault(name, now_ns + HOLD_NS)
        while self._touches > SCAN_TOUCHES:
            verdicts += self._release_first()
        return verdicts

    def due(
        self,
        now_ns: int,
        attempts: Callable[[Container[bytes], int], Iterable[Attempt]],
        *,
        all_of_them: bool = False,
    ) -> Iterator[Verdict]:
        """The verdicts on what has waited long enough.

        `attempts` gives the attempts of some sources since a time, and may give those of others
        too. It is called only if a source has waited long enough.
        """
        # Each as of the end of its own wait: a capture may have nothing for long after that.
        since = {
            name: min(end_ns, now_ns) - WINDOW_NS
            for name, end_ns in self._waiting.items()
            if all_of_them or end_ns <= now_ns
        }
        if not since:
            return
        for attempt in attempts(since.keys(), min(since.values())):
            name = _source_of(attempt.ends)
            if name in since and attempt.time_ns >= since[name]:
                self._sources[name].note(attempt.ends, _Seen.UNANSWERED, attempt.time_ns)
        for name, since_ns in since.items():
            source = self._sources[name]
            source.expire(since_ns)
            yield from self._release(name, source)

    def _release(self, name: bytes, source: _Source) -> list[Verdict]:
        """The verdicts on the touches of a source, which wait no longer."""
        self._waiting.pop(name, None)
        tool = source.tool()
        verdicts = [(waited, tool if source.made(waited) else None) for waited in source.touches]
        self._touches -= len(verdicts)
        source.touches.clear()
        return verdicts

    def _release_first(self) -> list[Verdict]:
        """Release the source that has waited for longest, because too many touches wait."""
        name = next(iter(self._waiting))
        verdicts = self._release(name, self._sources[name])
        self._counts["scan_touches_hurried"] += len(verdicts)
        return verdicts


class _Seen(IntEnum):
    """What is known of a source and a service; the greater value is the stronger evidence."""

    UNANSWERED = 0
    SILENT = 1
    RESET = 2


_Service = tuple[bytes, int]
"""Address and port."""


class _Source:
    """A source that may be scanning: the services that it touched."""

    __slots__ = ("_reset_ns", "_services", "touches")

    def __init__(self) -> None:
        self._services: dict[_Service, tuple[_Seen, int]] = {}
        """The strongest evidence of each, and the time of the last."""
        self._reset_ns = -HOLD_NS
        """Time of the last proven touch."""
        self.touches: list[Touch] = []
        """Those that wait."""

    def note(self, ends: Ends, seen: _Seen, time_ns: int) -> bool:
        """Add evidence of a service; whether the service was known."""
        if seen is _Seen.RESET:
            self._reset_ns = max(self._reset_ns, time_ns)
        service = ends.server, ends.server_port
        before = self._services.get(service)
        if before is None:
            if len(self._services) < SCAN_SERVICES or self._evict_unanswered(seen):
                self._services[service] = seen, time_ns
            return False
        self._services[service] = max(before[0], seen), max(before[1], time_ns)
        return True

    def expire(self, before_ns: int) -> None:
        """Drop the services last seen before that time."""
        old = [service for service, (_, last_ns) in self._services.items() if last_ns < before_ns]
        for service in old:
            del self._services[service]

    def tool(self) -> Tool | None:
        """The tool, if the services make a scan."""
        counted = Counter(seen for seen, _ in self._services.values())
        if not counted[_Seen.RESET] or len(self._services) < SERVICES:
            return None
        more = "+" if len(self._services) == SCAN_SERVICES else ""
        unanswered = counted.pop(_Seen.UNANSWERED, 0)
        # Services that did not respond are evicted for others, so only one number can be short.
        answered = f"services answered {counted.total()}{more if not unanswered else ''}"
        traits = ["connect scan", "handshake then reset", "no data", answered]
        if unanswered:
            traits.append(f"unanswered {unanswered}{more}")
        return Tool("nmap", "; ".join(traits))

    def made(self, found: Touch) -> bool:
        """Whether the tool made this connection; another client may have the same address."""
        return found.proven or abs(found.record.last_ns - self._reset_ns) <= HOLD_NS

    def _evict_unanswered(self, seen: _Seen) -> bool:
        """Make room for stronger evidence; whether there is room."""
        for service, (weaker, _) in self._services.items():
            if weaker is _Seen.UNANSWERED and seen is not _Seen.UNANSWERED:
                del self._services[service]
                return True
        return False


def _source_of(ends: Ends) -> bytes:
    address = ends.client
    return address if address.startswith(MAPPED_PREFIX) else address[:_SUBNET_BYTES]
