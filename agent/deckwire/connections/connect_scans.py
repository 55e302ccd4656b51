"""Connect scans: which connections belong to one, told by what their source does within a minute.

``nmap -sT`` connects through its host's kernel, so its SYNs are that kernel's. What is nmap's own
is the end: it closes with a linger time of zero, so its kernel resets the connection as soon as the
handshake is complete, and not a byte was sent. Ordinary clients close with FIN; a reset of theirs
comes after data, or because the server's data was not read. One such connection is a health check
of a load balancer as well. nmap's are several services within a short time, of which some answer
and others do not. docs/systems.md has the rule and the captures behind it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from deckwire.deckies import MAPPED_PREFIX
from deckwire.fingerprints.scanners import Tool
from deckwire.limits import SCAN_SERVICES, SCAN_SOURCES, SCAN_TOUCHES
from deckwire.tcp.flow import Ends, FlowRecord

SERVICES = 3
"""Services that make a scan: two may be a client that tries its next address or port."""
WINDOW_NS = 60_000_000_000
"""So long a service counts; three probes at nmap's ``-T1``, 15 s apart, still stand in it."""
HOLD_NS = 3_000_000_000
"""So long a connection waits to be told: what its source does next may name it."""
RESET_NS = 1_000_000_000
"""The latest reset after the handshake: nmap's took 2 ms at most, 82 ms on a busy machine, whatever
the round trip."""

_SUBNET_BYTES = 8
"""An IPv6 source is its /64, as in the kernel."""


class Touch(NamedTuple):
    """A connection in which the client said nothing and that it reset at once."""

    key: bytes
    client: int
    """The end that opened it: 0 or 1."""
    ends: Ends
    record: FlowRecord
    proven: bool
    """The reset cannot be that of a client that closed before it had read what the server sent."""


class Attempt(NamedTuple):
    """A SYN that got no SYN-ACK: refused, or dropped without an answer."""

    ends: Ends
    time_ns: int


Verdict = tuple[Touch, Tool | None]
"""A connection that is to be told now, and the tool that made it if that is known."""


def touch(key: bytes, client: int, ends: Ends, record: FlowRecord) -> Touch | None:
    """The connection as a touch, or None if it is none. `client` is the end that opened it."""
    sent, answered = record.sides[client], record.sides[1 - client]
    if record.close != "rst" or record.midstream or sent.bytes:
        return None
    if record.rtt_client_us is None or record.rtt_server_us is None:
        return None
    handshake_ns = 1_000 * (record.rtt_server_us + record.rtt_client_us)
    if record.last_ns - record.first_ns - handshake_ns > RESET_NS:
        return None
    # The server's packets are its SYN-ACK and what it sent at once: the reset is the client's.
    if answered.packets - answered.retransmits != (2 if answered.bytes else 1):
        return None
    # Without the server's data they are SYN, ACK, RST. Behind its data the kernel resets for
    # every client that closes before it has read them.
    proven = not answered.bytes
    if proven and sent.packets - sent.retransmits != 3:
        return None
    return Touch(key, client, ends, record, proven)


class ConnectScans:
    """The sources of touches: bounded; the one silent for longest makes room. For one thread."""

    def __init__(self, counts: Counter[str]) -> None:
        """`counts` takes what was dropped on purpose, by cause."""
        self._counts = counts
        self._sources: OrderedDict[bytes, _Source] = OrderedDict()
        self._waiting: OrderedDict[bytes, int] = OrderedDict()
        """Sources with touches that wait, and until when; the first one's wait ends first."""
        self._touches = 0

    @property
    def waiting(self) -> int:
        """Touches that are not told yet."""
        return self._touches

    def __len__(self) -> int:
        return len(self._sources)

    def take(self, found: Touch) -> list[Verdict]:
        """Take a touch; what is to be told now, which need not hold this one."""
        name = _source_of(found.ends)
        source = self._sources.setdefault(name, _Source())
        self._sources.move_to_end(name)
        now_ns = found.record.last_ns
        source.forget(now_ns - WINDOW_NS)
        known = source.note(found.ends, _Seen.RESET if found.proven else _Seen.SILENT, now_ns)
        source.touches.append(found)
        self._touches += 1
        if source.tool() is not None or (known and name not in self._waiting):
            return self._release(name)
        self._waiting.setdefault(name, now_ns + HOLD_NS)
        return self._over_bounds()

    def due(
        self,
        now_ns: int,
        attempts: Callable[[Container[bytes], int], Iterable[Attempt]],
        *,
        all_of_them: bool = False,
    ) -> Iterator[Verdict]:
        """What has waited long enough.

        `attempts` gives those of some sources since a time. It is asked if there is any such
        source, and may give others' too.
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
            self._sources[name].forget(since_ns)
            yield from self._release(name)

    def _release(self, name: bytes) -> list[Verdict]:
        self._waiting.pop(name, None)
        source = self._sources[name]
        tool = source.tool()
        told = [(waited, tool if source.made(waited) else None) for waited in source.touches]
        self._touches -= len(told)
        source.touches.clear()
        return told

    def _over_bounds(self) -> list[Verdict]:
        told: list[Verdict] = []
        while len(self._sources) > SCAN_SOURCES:
            oldest = next(iter(self._sources))
            told += self._release(oldest)
            del self._sources[oldest]
            self._counts["scan_sources_evicted"] += 1
        while self._touches > SCAN_TOUCHES:
            released = self._release(next(iter(self._waiting)))
            self._counts["scan_touches_hurried"] += len(released)
            told += released
        return told


class _Seen(IntEnum):
    """What is known of a source and a service; the greater one is the stronger evidence."""

    UNANSWERED = 0
    SILENT = 1
    RESET = 2


_Service = tuple[bytes, int]
"""Address and port."""


class _Source:
    """Who scans, perhaps."""

    __slots__ = ("_reset_ns", "_services", "touches")

    def __init__(self) -> None:
        self._services: dict[_Service, tuple[_Seen, int]] = {}
        """With the time of the last touch or attempt."""
        self._reset_ns = -HOLD_NS
        """Of the last touch that was proven."""
        self.touches: list[Touch] = []
        """Not told yet."""

    def note(self, ends: Ends, seen: _Seen, time_ns: int) -> bool:
        """Take what was seen of a service; whether the service was known."""
        if seen is _Seen.RESET:
            self._reset_ns = max(self._reset_ns, time_ns)
        service = ends.server, ends.server_port
        before = self._services.get(service)
        if before is None:
            if len(self._services) < SCAN_SERVICES or self._forget_unanswered(seen):
                self._services[service] = seen, time_ns
            return False
        self._services[service] = max(before[0], seen), max(before[1], time_ns)
        return True

    def forget(self, before_ns: int) -> None:
        """Forget the services last seen before then."""
        over = [service for service, (_, last_ns) in self._services.items() if last_ns < before_ns]
        for service in over:
            del self._services[service]

    def tool(self) -> Tool | None:
        """The tool, if what was seen is a scan."""
        counted = Counter(seen for seen, _ in self._services.values())
        if not counted[_Seen.RESET] or len(self._services) < SERVICES:
            return None
        more = "+" if len(self._services) == SCAN_SERVICES else ""
        unanswered = counted.pop(_Seen.UNANSWERED, 0)
        # What did not answer makes room for what did: only one of both can be more.
        answered = f"services answered {counted.total()}{more if not unanswered else ''}"
        traits = ["connect scan", "handshake then reset", "no data", answered]
        if unanswered:
            traits.append(f"unanswered {unanswered}{more}")
        return Tool("nmap", "; ".join(traits))

    def made(self, found: Touch) -> bool:
        """Whether the tool, if there is one, made this connection: another client may be here."""
        return found.proven or abs(found.record.last_ns - self._reset_ns) <= HOLD_NS

    def _forget_unanswered(self, seen: _Seen) -> bool:
        """Make room for what is stronger evidence; whether there is room."""
        for service, (weaker, _) in self._services.items():
            if weaker is _Seen.UNANSWERED and seen is not _Seen.UNANSWERED:
                del self._services[service]
                return True
        return False


def _source_of(ends: Ends) -> bytes:
    address = ends.client
    return address if address.startswith(MAPPED_PREFIX) else address[:_SUBNET_BYTES]
