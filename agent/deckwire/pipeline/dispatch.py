"""The pipeline: takes samples in order and has their events emitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace
from functools import partial

from deckwire.abi import structs as abi
from deckwire.abi.flow_key import ends
from deckwire.abi.hashes import decky_bit, service_signature
from deckwire.abi.samples import (
    AnomalySample,
    EndSample,
    HandshakeSample,
    SackSample,
    Sample,
    SegmentSample,
    SynSample,
)
from deckwire.bus.messages import Announcement
from deckwire.clock import Clock
from deckwire.connections.connect_scans import Attempt, ConnectScans, Verdict, touch
from deckwire.connections.connection import Connection
from deckwire.connections.heads import Heads
from deckwire.connections.open_connections import Connections
from deckwire.connections.recent_ends import RecentEnds
from deckwire.connections.urgent_bytes import UrgentBytes
from deckwire.deckies import Registry
from deckwire.events.choices import Choices
from deckwire.events.flow import is_probe
from deckwire.events.ignore import IgnoreRules
from deckwire.fingerprints.identity import Identifier
from deckwire.output.emitter import Emitter
from deckwire.pipeline.attribution import Attribution
from deckwire.pipeline.datagrams import Datagrams
from deckwire.pipeline.fragmented import FragmentedConnections
from deckwire.pipeline.reporting import Reporter
from deckwire.pipeline.scanning import Scanning
from deckwire.pipeline.sweeping import Sweeper
from deckwire.pipeline.windows import Windows
from deckwire.resilience.containment import Containment, Where
from deckwire.scans.author import Author
from deckwire.tables.deckies import DeckiesChange, DeckiesRefused
from deckwire.tables.flows import OpenFlow
from deckwire.tables.tables import Tables
from deckwire.tcp.flow import FlowRecord, is_refused
from deckwire.tcp.handshake import Handshake

_AS_OPENED = Attribution()
_NO_HEADS = (0, 0)
"""FlowRecord.heads of nearly all connections."""


class Pipeline:
    """Takes samples in the order of their times and emits events. For one thread."""

    def __init__(
        self,
        *,
        registry: Registry,
        tables: Tables,
        emitter: Emitter,
        clock: Clock,
        identifier: Identifier,
        choices: Choices,
        idle_ns: int,
        containment: Containment,
        attribution: Attribution = _AS_OPENED,
        scan_targets: int = 0,
        scan_idle_ns: int = 0,
        in_order: bool = False,
    ) -> None:
        """`scan_targets` is 0 if no scan is to be reported.

        `in_order` ends connections by time: see Sweeper.
        """
        self.counts: Counter[str] = Counter()
        """Counts of what was dropped or evicted on purpose, by cause."""
        self.connections = Connections(self._find_handshake, self._recall_hello)
        self.urgent = UrgentBytes()
        self.heads = Heads(self._recall_head)
        """Connections whose first bytes are being read, as long as no TLS begins."""
        self.fragmented = FragmentedConnections()
        """Connections that came in IP fragments."""
        self._ends = RecentEnds()
        self._tables = tables
        self._clock = clock
        self._containment = containment
        self._windows = Windows(tables, emitter, clock, containment, self.counts)
        self._report = Reporter(
            registry=registry,
            tables=tables,
            emitter=emitter,
            windows=self._windows,
            clock=clock,
            identifier=identifier,
            choices=choices,
            counts=self.counts,
            attribution=attribution,
            containment=containment,
            fragmented=self.fragmented,
        )
        self.sweeper = Sweeper(
            tables.flows,
            self._end,
            self._handshake,
            self._suppress_handshake,
            idle_ns=idle_ns,
            counts=self.counts,
            containment=containment,
            in_order=in_order,
        )
        """Its sweeps may be done in slices."""
        self._connect_scans = ConnectScans(self.counts)
        self.scanning = Scanning(
            tables.sources.changed,
            emitter=emitter,
            clock=clock,
            attribution=attribution,
            counts=self.counts,
            containment=containment,
            targets=scan_targets,
            idle_ns=scan_idle_ns,
        )
        self._datagrams = Datagrams(tables.begun, self._report.sent, self.counts, containment)
        self._report.note_author = self.scanning.note
        self.scanning.note_probed = self._report.probed

    @property
    def registry(self) -> Registry:
        """The deckies that are watched."""
        return self._report.registry

    def take(self, sample: Sample) -> None:
        """Take one sample."""
        # Each sample comes here, and `match` takes longer.
        if isinstance(sample, SegmentSample):
            self._segment(sample)
        elif isinstance(sample, HandshakeSample):
            self._handshake(sample)
        elif isinstance(sample, SynSample):
            self._report.syn(sample.key, sample.client, sample.syn, sample.signature)
        elif isinstance(sample, EndSample):
            self._end(sample.key, self._latest(sample), "")
        elif isinstance(sample, SackSample):
            self.connections.prove(sample)
        elif isinstance(sample, AnomalySample):
            self._report.anomaly(sample)

    def sweep(self, now_ns: int) -> None:
        """End what is over by the samples' clock, without slices."""
        self.sweeper.sweep(now_ns)

    def emit_due(self, now_ns: int) -> None:
        """Emit what is due: verdicts about connections, scans, and summaries of dedup windows."""
        with self._containment.during(Where.DUE):
            self._judged(self._connect_scans.due(now_ns, self._attempts))
        with self._containment.during(Where.SCANS):
            self.scanning.sweep(now_ns)
        with self._containment.during(Where.DUE):
            self._datagrams.sweep(now_ns)
        self._report.lateral.release_due(now_ns)
        self._windows.close_due(now_ns)

    def announce(self, announcement: Announcement) -> None:
        """Take the bus's word that deckies talked to each other on DECNET's behalf."""
        self._report.lateral.announce(announcement, self._clock.now_ns())

    def ignore_peers(self, own: frozenset[bytes]) -> None:
        """Emit nothing that would name this host, with these addresses, as the attacker."""
        self._report.own_addresses = self.scanning.own_addresses = own

    def ignore(self, rules: IgnoreRules) -> None:
        """Emit nothing of what matches these rules, and count it."""
        self._report.ignore(rules)
        self.scanning.ignored = rules

    def replace_registry(
        self,
        registry: Registry,
        change: DeckiesChange | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Watch other deckies. Connections of those that left end with ``removed``.

        `change` is what the kernel's tables need for it, if it was prepared already. `between` is
        called between parts of the work. It must take no sample.

        Raises:
            DeckiesRefused: the kernel refused; the registry before stays in force.
        """
        deckies = self._tables.deckies
        try:
            change = change or deckies.prepare(registry.addresses)
            deckies.apply(change, between)
        except DeckiesRefused:
            self.counts["reloads_failed"] += 1
            raise
        try:
            if change.removes:
                self._end_removed(registry)
        finally:
            # The kernel has changed, so this holds even if ending connections failed.
            self._report.registry = self.scanning.registry = registry

    def change_idle_time(self, idle_ns: int) -> None:
        """End connections that idle for this long, from the next sweep on."""
        self.sweeper.idle_ns = idle_ns

    def restart_dedup(self) -> None:
        """Close every window, and have the kernel sample everything again."""
        self._windows.restart()

    def finish(self, close: str = "shutdown") -> None:
        """End every connection and close every window; an error in one spares the others.

        `close` is what is said of connections that are open.
        """
        contained = self._containment.during
        with contained(Where.SHUTDOWN):
            self.sweeper.end_all(close)
        while len(self.connections):
            with contained(Where.END):
                ended = self.connections.end_any()
                if ended is not None:
                    self._report.observations(*ended)
        while len(self.heads):
            with contained(Where.END):
                head = self.heads.end_any()
                if head is not None:
                    self._report.heads(*head)
        with contained(Where.DUE):
            self._judge_all()
        with contained(Where.DUE):
            self._datagrams.look()
        self._report.lateral.release_all()
        with contained(Where.SCANS):
            self.scanning.finish()
        self._windows.close_all()

    # --- samples ---

    def _handshake(self, sample: HandshakeSample) -> None:
        handshake = sample.handshake.keep_even(self._clock.even)
        self.connections.opened(sample.key, sample.born_ns, handshake)
        data = self.connections.held_syn_data(sample.key, sample.born_ns, handshake)
        if (
            handshake.syn is not None
            and not sample.syn_sampled
            and not self._windows.syns.suppresses(sample.signature, handshake.syn.time_ns)
        ):
            # Its sample was over budget or lost. So no flood conceals an honest client's SYN.
            self._report.syn(sample.key, sample.client, handshake.syn, sample.signature)
        self._report.handshake(sample.key, sample.client, sample.time_ns, handshake)
        if data is not None:
            self._segment(data)

    def _suppress_handshake(self, flow: OpenFlow, without_syn: bool) -> bool:
        """Suppress a handshake whose sample was lost, if an equal one was emitted lately.

        Returns True if it was suppressed, so that its window counts it and nothing else is due.
        A flood has thousands of such handshakes, and the kernel would have suppressed their
        samples. A handshake also reports its SYN if the event of that may be due still. Then it is
        suppressed only with `without_syn`, and its SYN gets no event.
        """
        client, syn_data, flags = abi.FLOW_OPENED.unpack_from(flow.value)
        # Data of a SYN are read only when the handshake is reported.
        if syn_data or not (without_syn or flags & abi.SYN_KNOWN):
            return False
        return self._windows.suppress(
            self._windows.services,
            service_signature(flow.key, client, self._tables.seed, abi.SERVICE_HANDSHAKE),
            flow.established_ns,
            decky_bit(flow.key, client),
        )

    def _segment(self, sample: SegmentSample) -> None:
        if sample.syn_data:
            self.connections.hold(sample)
            return
        if sample.head:
            self._head(sample)
            if not sample.shared:
                return
            sample = replace(sample, start_seq=None)
            if sample.head == "ssh":
                sample = replace(sample, hello=0)
        elif (start_seq := sample.start_seq) is not None and (
            start_seq != sample.seq or len(self.heads)
        ):
            self._tls_begins(sample, start_seq)
        if sample.urgent_seq is not None:
            self.urgent.note(sample)
        found = self.connections.add(sample)
        if found is not None and found[1]:
            self._report.observations(*found)
        while (evicted := self.connections.over_bounds()) is not None:
            self._report.observations(*evicted)

    def _tls_begins(self, sample: SegmentSample, start_seq: int) -> None:
        """End the reading of first bytes. Those before TLS in an end's first segment are some too.

        Else bytes that only begin like a hello would conceal what is before them.
        """
        before = (start_seq - sample.seq) & 0xFFFF_FFFF
        if (
            0 < before < len(sample.payload)
            and self.heads.wanted
            and self.connections.first_seq(sample) == sample.seq
        ):
            payload = sample.payload[:before]
            self._head(replace(sample, payload=payload, claimed=before, start_seq=sample.seq))
        if len(self.heads):
            head = self.heads.tls_begins(sample.key, sample.born_ns, sample.sender, start_seq)
            if head is not None:
                self._report.heads(*head)

    def _head(self, sample: SegmentSample) -> None:
        found = self.heads.add(sample)
        if found is not None:
            self._report.heads(*found)
        while (evicted := self.heads.over_bounds()) is not None:
            self._report.heads(*evicted)

    def _latest(self, sample: EndSample) -> FlowRecord:
        """The figures of a connection that has ended.

        Its packets that came in fragments may have been accounted after the sample of the end.
        """
        if not self.fragmented.seen or not self.fragmented.count(sample.key, sample.time_ns):
            return sample.record
        return self._tables.flows.record(sample.key, sample.born_ns) or sample.record

    def _end(self, key: bytes, record: FlowRecord, close: str) -> None:
        """Take a connection's end; `close` says how it ended where the record does not."""
        if self._ends.is_repeated(key, record):
            self.counts["ends_repeated"] += 1
        else:
            self._ended(key, record, close)

    def _ended(self, key: bytes, record: FlowRecord, close: str) -> None:
        if not self._clock.even(record.born_ns, record.last_ns):
            record = record.without_times()
        urgent = self.urgent.ended(key, record.born_ns)
        if urgent is not None:
            record = record.without_urgent(urgent)
        client = record.client
        # Not `during`, which takes three calls: each connection ends here.
        try:
            ended = self.connections.end(key, record.born_ns)
            if ended is not None:
                if client == abi.CLIENT_UNKNOWN:
                    client = ended[0].client
                if not is_refused(record):
                    self._report.observations(*ended)
        except Exception as error:
            self._containment.failed(Where.END, error)
        self._end_head(key, record)
        if is_probe(record):
            self.counts["flow_probes"] += 1
            return
        if client == abi.CLIENT_UNKNOWN:
            client = self._likely_client(key)
        # Nearly all connections end otherwise, and are no touch.
        found = touch(key, client, ends(key, client), record) if record.close == "rst" else None
        if found is not None:
            self._judged(self._connect_scans.take(found))
        else:
            self._report.flow(key, client, record, record.close or close)

    def _end_head(self, key: bytes, record: FlowRecord) -> None:
        """End the reading of a connection's first bytes."""
        if record.heads != _NO_HEADS:
            with self._containment.during(Where.END):
                head = self.heads.recall(key, record)
                if head is not None:
                    self._report.heads(*head)
        # As in _end: each connection comes here.
        try:
            first, second = record.sides
            head = self.heads.end(key, record.born_ns, (first.accepted, second.accepted))
            if head is not None:
                self._report.heads(*head)
        except Exception as error:
            self._containment.failed(Where.END, error)

    def _end_removed(self, registry: Registry) -> None:
        """End the connections that have no end in the new registry, under their old names."""
        before = self.registry

        def left(key: bytes) -> bool:
            ends_there = {*abi.ADDRESSES.unpack(key)}
            others = {end for end in ends_there if end not in before or end in registry}
            return len(others) < 2 and not any(end in registry for end in others)

        self._judge_all()
        self.sweeper.end_all("removed", left)

    # --- connect scans ---

    def _attempts(self, sources: Container[bytes], since_ns: int) -> Iterator[Attempt]:
        # If this fails, the connections that wait are judged without it.
        with self._containment.during(Where.DUE):
            for key, client, time_ns in self._tables.half_open.unanswered(sources, since_ns):
                yield Attempt(ends(key, client), time_ns)

    def _judge_all(self) -> None:
        now_ns = self._clock.now_ns()
        self._judged(self._connect_scans.due(now_ns, self._attempts, all_of_them=True))

    def _judged(self, verdicts: Iterable[Verdict]) -> None:
        for ended, tool in verdicts:
            with self._containment.during(Where.END):
                if tool is not None:
                    self.scanning.note(ended.ends.client, Author(tool.name, tool.evidence))
                self._report.flow(ended.key, ended.client, ended.record, ended.record.close, tool)

    # --- requests of connections ---

    def _find_handshake(self, key: bytes, born_ns: int, midstream: bool) -> Handshake | None:
        """The handshake of a connection in the tables, without times across a clock jump."""
        handshake = self._tables.flows.handshake(key, born_ns, midstream)
        return None if handshake is None else handshake.keep_even(self._clock.even)

    def _recall_hello(self, connection: Connection, signature: int) -> None:
        """Give a connection the ClientHello that the kernel suppressed."""
        connection.recall(
            self._report.recall_hello(signature),
            partial(self._tables.flows.suppressed_hello, connection.key, connection.born_ns),
        )

    def _recall_head(self, signature: int) -> bytes | None:
        """The first bytes of SSH that the kernel suppressed."""
        return self._report.recall_head(signature)

    def _likely_client(self, key: bytes) -> int:
        """The end that probably opened a mid-stream connection, which does not show who did.

        A decky counts as the server. Between two deckies, end 0 does: it has the lower port.
        """
        low, high = (address in self.registry for address in abi.ADDRESSES.unpack(key))
        return 0 if high and not low else 1
