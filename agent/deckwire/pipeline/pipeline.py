"""From samples in order to events: the same for live traffic and for captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from heapq import nsmallest
from operator import itemgetter
from typing import TypeVar

from deckwire.abi import structs as abi
from deckwire.abi.samples import (
    EndSample,
    HandshakeSample,
    Sample,
    SegmentSample,
    SynSample,
    flow_record,
)
from deckwire.clock import Clock
from deckwire.connections.connect_scans import Attempt, ConnectScans, Verdict, touch
from deckwire.connections.connection import (
    CertificatesSeen,
    Connection,
    HelloSeen,
    Observation,
    SessionSeen,
)
from deckwire.connections.open_connections import Connections
from deckwire.connections.suppressed_hello import EmittedHellos
from deckwire.deckies import Registry
from deckwire.events import certificate as certificate_fields
from deckwire.events import client as client_fields
from deckwire.events import server as server_fields
from deckwire.events import server_stack as server_stack_fields
from deckwire.events import stack as stack_fields
from deckwire.events.certificate import certificate_event
from deckwire.events.certificate import headline as certificate_headline
from deckwire.events.choices import Choices
from deckwire.events.client import wire_text
from deckwire.events.context import Context, locate
from deckwire.events.event import Event, Headline
from deckwire.events.flow import flow_event, is_probe
from deckwire.events.flow import headline as flow_headline
from deckwire.events.handshake import handshake_event
from deckwire.events.handshake import headline as handshake_headline
from deckwire.events.hello import headline as hello_headline
from deckwire.events.hello import hello_event
from deckwire.events.memo import Described
from deckwire.events.server_stack import ServerStack
from deckwire.events.session import headline as session_headline
from deckwire.events.session import session_event
from deckwire.events.stack import Stack
from deckwire.events.syn import headline as syn_headline
from deckwire.events.syn import syn_event
from deckwire.fingerprints.identity import Identifier, Identity, ServerIdentity
from deckwire.fingerprints.scanners import Tool
from deckwire.limits import CONTEXTS, STACKS
from deckwire.output.emitter import Emitter, Fate
from deckwire.resilience.containment import Containment, Where
from deckwire.tables.deckies import DeckiesRefused
from deckwire.tables.suppression import (
    SERVICE_FLOW,
    SERVICE_HANDSHAKE,
    Suppressed,
    service_signature,
)
from deckwire.tables.tables import FlowBatch, OpenFlow, Tables
from deckwire.tcp.flow import FlowRecord, ends
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.syn_packet import SynPacket
from deckwire.tls.hello_cache import is_short
from deckwire.x509.certificate import CertificateCache
from deckwire.x509.certificate import is_kept as certificate_is_kept
from deckwire.x509.certificate import memory as certificate_memory

_K = TypeVar("_K")
_D = TypeVar("_D")

_source_slot = itemgetter(3)
"""Of what FlowBatch.states gives."""

_LINGER_NS = 10_000_000_000
"""A closed entry stays so long, so that late segments make no ghost."""
_SETTLE_NS = 1_000_000_000
"""A closed entry of which no end was told is told only then: its sample may be on the way."""


class Pipeline:
    """Takes samples in the order of their times and tells events. For one thread."""

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
    ) -> None:
        self.registry = registry
        self.counts: Counter[str] = Counter()
        """What was dropped on purpose, by cause."""
        self.connections = Connections(self._find_handshake, self._recall_hello)
        self._tables = tables
        self._emitter = emitter
        self._clock = clock
        self._identifier = identifier
        self._choices = choices
        self._idle_ns = idle_ns
        self._containment = containment
        self._describe_client = _described(
            client_fields.describe, choices, is_short, client_fields.memory
        )
        self._describe_server = _described(
            server_fields.describe, choices, is_short, server_fields.memory
        )
        self._describe_stack: Described[Identity, Stack] = _described(
            stack_fields.describe, choices
        )
        self._describe_server_stack: Described[ServerIdentity, ServerStack] = _described(
            server_stack_fields.describe, choices
        )
        self._describe_leaf = _described(
            certificate_fields.describe, choices, certificate_is_kept, certificate_memory
        )
        self._certificates = CertificateCache()
        self._emitted_hellos = EmittedHellos()
        self._scans = ConnectScans(self.counts)
        self._contexts: dict[tuple[bytes, int], Context] = {}
        self._stacks: dict[int, Stack] = {}

    def take(self, sample: Sample) -> None:
        """Take one sample."""
        match sample:
            case SegmentSample():
                self._segment(sample)
            case HandshakeSample():
                self._handshake(sample)
            case SynSample():
                self._syn(sample)
            case EndSample():
                self._end(sample.key, sample.record, "")

    def sweep(self, now_ns: int) -> float:
        """End what has idled by the samples' clock, tell what the rings had no room for.

        Returns how full the table of connections is then, from 0 to 1.
        """
        sources: Counter[int] = Counter()
        for batch in self._tables.flow_batches():
            states = batch.states()
            over = self._over(states, now_ns)
            told = [number for number in over if _is_end_sent(states[number])]
            forgotten = self._tables.forget(batch, told, (states[number][3] for number in told))
            # Which of them were there is not known if not all were: the next sweep counts anew.
            gone = list(told) if forgotten == len(told) else []
            for number in over:
                if not _is_end_sent(states[number]) and self._end_open(batch.flow(number), "idle"):
                    gone.append(number)
            if not batch.midstream:
                sources.update(map(_source_slot, states))
                sources.subtract(states[number][3] for number in gone)
        sources = self._evict(sources)
        self._tables.recount_sources(sources)
        return self._tables.fill(sources.total())

    def emit_due(self, now_ns: int) -> None:
        """Tell what waited for its time: verdicts about scans, windows that are over."""
        with self._containment.during(Where.DUE):
            self._emit_touches(self._scans.due(now_ns, self._attempts))
        self._collect_suppressed(now_ns)
        self._emitter.close_windows(self._clock.wall_ns(now_ns))
        self._make_room(now_ns)

    def replace_registry(self, registry: Registry) -> None:
        """Watch other deckies; connections of those that left end with ``removed``.

        Raises:
            DeckiesRefused: the kernel refused; the registry before stays in force.
        """
        try:
            self._tables.deckies.replace(registry.addresses)
        except DeckiesRefused:
            self.counts["reloads_failed"] += 1
            raise
        try:
            self._end_removed(registry)
        finally:
            # From the kernel's change on, whatever came of the connections.
            self.registry = registry
            self._contexts.clear()

    def finish(self) -> None:
        """The end: every connection is told, but for one of which a mistake of ours keeps us."""
        contained = self._containment.during
        with contained(Where.SHUTDOWN):
            for flow in self._tables.open_flows():
                self._end_open(flow, "shutdown")
        while len(self.connections):
            with contained(Where.END):
                ended = self.connections.end_any()
                if ended is not None:
                    self._emit_observations(*ended)
        with contained(Where.DUE):
            self._emit_all_touches()
        self._collect_suppressed(None)
        self._emitter.close_windows(self._clock.wall_ns(self._clock.now_ns()), all_of_them=True)

    # --- samples ---

    def _syn(self, sample: SynSample) -> None:
        self._emit_syn(sample.key, sample.client, sample.syn, sample.signature)

    def _handshake(self, sample: HandshakeSample) -> None:
        handshake = sample.handshake.keep_even(self._clock.even)
        self.connections.opened(sample.key, sample.born_ns, handshake)
        if (
            handshake.syn is not None
            and not sample.syn_sampled
            and not self._tables.syns.suppresses(sample.signature, handshake.syn.time_ns)
        ):
            # Cut by a budget, or its sample was lost: no honest client is lost to a flood.
            self._emit_syn(sample.key, sample.client, handshake.syn, sample.signature)
        context = self._context(sample.key, sample.client)
        if context is not None:
            headline = handshake_headline(context, self._clock.wall_ns(sample.time_ns))
            self._emit_of_service(
                SERVICE_HANDSHAKE,
                sample.key,
                sample.client,
                sample.time_ns,
                headline,
                lambda: handshake_event(
                    headline, context, handshake, self._choices, self._server_stack(handshake)
                ),
            )

    def _segment(self, sample: SegmentSample) -> None:
        found = self.connections.add(sample)
        if found is not None:
            self._emit_observations(*found)
        while (evicted := self.connections.over_bounds()) is not None:
            self._emit_observations(*evicted)

    def _end(self, key: bytes, record: FlowRecord, close: str) -> None:
        """`close` says why where the record itself does not."""
        if not self._clock.even(record.first_ns, record.last_ns):
            record = record.without_times()
        client = record.client
        with self._containment.during(Where.END):
            ended = self.connections.end(key, record.born_ns)
            if ended is not None:
                if client == abi.CLIENT_UNKNOWN:
                    client = ended[0].client
                self._emit_observations(*ended)
        if is_probe(record):
            self.counts["flow_probes"] += 1
            return
        if client == abi.CLIENT_UNKNOWN:
            client = self._likely_client(key)
        found = touch(key, client, ends(key, client), record)
        if found is not None:
            self._emit_touches(self._scans.take(found))
        else:
            self._emit_flow(key, client, record, record.close or close)

    # --- tables ---

    def _over(self, states: list[tuple[int, int, int, int]], now_ns: int) -> list[int]:
        """The entries that a sweep is to end or forget."""
        settled, lingered, idle = now_ns - _SETTLE_NS, now_ns - _LINGER_NS, now_ns - self._idle_ns
        open_, told = abi.CLOSE_NONE, abi.FLOW_END_SENT
        # In one expression: thousands that only linger are looked at each second.
        return [
            number
            for number, (last_ns, close, flags, _) in enumerate(states)
            if last_ns <= settled
            and (last_ns <= idle if close == open_ else last_ns <= lingered or not flags & told)
        ]

    def _end_open(self, flow: OpenFlow, close: str) -> OpenFlow | None:
        """End a connection that the kernel has in a table, unless it has told it already.

        As it was then; None if it is gone or another is in its place.
        """
        taken = self._tables.take(flow)
        if taken is None:
            return None
        state = taken.state
        if not (state.closed and state.end_sent):
            with self._containment.during(Where.END):
                self._end(taken.key, flow_record(taken.value), close)
        return taken

    def _end_removed(self, registry: Registry) -> None:
        """End the connections of which no end is in the new registry, under their old names."""
        gone = self.registry.addresses - registry.addresses
        if not gone:
            return
        self._emit_all_touches()
        for flow in self._tables.open_flows():
            low, high = flow.key[:16], flow.key[16:32]
            others = {low, high} - gone
            if len(others) < 2 and not any(end in registry for end in others):
                self._end_open(flow, "removed")

    def _evict(self, sources: Counter[int]) -> Counter[int]:
        """Make room before the table is full: ended ones first, then the biggest source's idlest.

        `sources` are the connections present by source_slot. Returns those present afterwards.
        """
        excess = self._tables.crowd(sources.total())
        if not excess:
            return sources

        def rank(state: tuple[int, int, int, int]) -> tuple[bool, int, int]:
            last_ns, close, _, slot = state
            return close == abi.CLOSE_NONE, -sources[slot], last_ns

        ranks = (rank(state) for batch in self._kept() for state in batch.states())
        last = max(nsmallest(excess, ranks), default=None)
        # Connections come and go between both looks: only what is counted by the second is
        # evicted, and only what was evicted is subtracted.
        present: Counter[int] = Counter()
        for batch in self._kept():
            states = batch.states()
            present.update(map(_source_slot, states))
            for number, state in enumerate(states):
                if not excess or last is None or rank(state) > last:
                    continue
                evicted = self._end_open(batch.flow(number), "evicted")
                if evicted is not None:
                    excess -= 1
                    present[state[3]] -= 1
                    self.counts["flows_evicted"] += not evicted.state.closed
        return present

    def _kept(self) -> Iterator[FlowBatch]:
        """The connections that a source has a share of."""
        return (batch for batch in self._tables.flow_batches() if not batch.midstream)

    def _attempts(self, sources: Container[bytes], since_ns: int) -> Iterator[Attempt]:
        # Those that wait are told without them too.
        with self._containment.during(Where.DUE):
            for key, client, time_ns in self._tables.unanswered(sources, since_ns):
                yield Attempt(ends(key, client), time_ns)

    def _collect_suppressed(self, now_ns: int | None) -> None:
        """What the kernel hid for windows that are over now; None: for all of them."""
        for table in (self._tables.syns, self._tables.services, self._tables.hellos):
            with self._containment.during(Where.DUE):
                self._add_suppressed(table.over(now_ns))

    def _make_room(self, now_ns: int) -> None:
        """Evict dedup windows before there are too many, and what the kernel suppresses by them.

        What it has hidden decides which of them stay, and belongs to their summaries.
        """
        end_ns = self._emitter.crowded()
        if end_ns is None:
            return
        wall_ns = self._clock.wall_ns(now_ns)
        until_ns = now_ns + end_ns - wall_ns
        for table in (self._tables.syns, self._tables.services, self._tables.hellos):
            self._add_suppressed(table.release(until_ns))
        self._emitter.make_room(end_ns, wall_ns)

    def _add_suppressed(self, found: Iterable[Suppressed]) -> None:
        for hidden in found:
            self._emitter.add_suppressed(
                hidden.window,
                count=hidden.events,
                first_ns=self._clock.wall_ns(hidden.first_ns),
                last_ns=self._clock.wall_ns(hidden.last_ns),
                deckies=hidden.deckies,
            )

    # --- telling ---

    def _emit_syn(self, key: bytes, client: int, syn: SynPacket, signature: int) -> None:
        if syn.options_cut:
            # Nearly all that a fingerprint is made of is missing.
            self.counts["syn_options_cut"] += 1
            return
        context = self._context(key, client)
        if context is None:
            return
        stack = self._stack(context, syn, signature)
        time_ns = self._clock.wall_ns(syn.time_ns)
        headline = syn_headline(context, time_ns, stack)
        # Before the window closes: its summary tells them.
        hidden = self._tables.syns.close(signature)
        if hidden:
            self._add_suppressed(hidden)
        fate = self._emitter.emit_new(headline, lambda: syn_event(headline, context, syn, stack))
        if fate is Fate.DROPPED or not signature:
            return
        opened = self._emitter.opened if fate is Fate.EMITTED else self._emitter.window(headline)
        if opened is None:
            return
        window, end_ns = opened
        until_ns = syn.time_ns + end_ns - time_ns
        # And what the kernel hid by itself until it was decided here.
        hidden = self._tables.syns.open(signature, window, until_ns)
        if hidden:
            self._add_suppressed(hidden)

    def _emit_all_touches(self) -> None:
        now_ns = self._clock.now_ns()
        self._emit_touches(self._scans.due(now_ns, self._attempts, all_of_them=True))

    def _emit_touches(self, verdicts: Iterable[Verdict]) -> None:
        for told, tool in verdicts:
            with self._containment.during(Where.END):
                self._emit_flow(told.key, told.client, told.record, told.record.close, tool)

    def _emit_flow(
        self, key: bytes, client: int, record: FlowRecord, close: str, tool: Tool | None = None
    ) -> None:
        context = self._context(key, client)
        if context is not None:
            headline = flow_headline(context, self._clock.wall_ns(record.last_ns))
            self._emit_of_service(
                SERVICE_FLOW,
                key,
                client,
                record.last_ns,
                headline,
                lambda: flow_event(headline, context, record, client, close, tool),
            )

    def _emit_of_service(
        self,
        what: int,
        key: bytes,
        client: int,
        time_ns: int,
        headline: Headline,
        make: Callable[[], Event],
    ) -> None:
        """Tell what is deduplicated by client and service; `time_ns` is the kernel's time of it."""
        if not self._tables.suppressing:
            self._emitter.emit_new(headline, make)
            return
        services = self._tables.services
        signature = service_signature(key, client, self._tables.seed, what)
        suppresses = services.suppresses(signature, time_ns)
        if not suppresses:
            self._add_suppressed(services.close(signature))
        fate = self._emitter.emit_new(headline, make)
        opened = self._emitter.opened if fate is Fate.EMITTED else None
        if fate is Fate.SUPPRESSED and not suppresses:
            # The kernel lost the slot, or suppresses no longer since other windows made room.
            opened = self._emitter.window(headline)
        if opened is not None:
            window, end_ns = opened
            until_ns = time_ns + end_ns - headline.time_ns
            self._add_suppressed(services.open(signature, window, until_ns))

    def _server_stack(self, handshake: Handshake) -> ServerStack | None:
        if handshake.synack is None or handshake.synack.options_cut:
            return None
        answer = self._identifier.identify_synack(handshake.synack, handshake.syn)
        return self._describe_server_stack(answer, handshake.synack)

    def _stack(self, context: Context, syn: SynPacket, signature: int) -> Stack:
        """Equal signatures of the kernel's mean equal systems, links and tools."""
        stack = self._stacks.get(signature)
        if stack is None:
            ends = context.ends
            identity = self._identifier.identify(syn, ends.server, ends.server_port)
            stack = self._describe_stack(identity, syn)
            if len(self._stacks) >= STACKS:
                self._stacks.clear()
            if signature:
                self._stacks[signature] = stack
        return stack

    def _emit_observations(self, connection: Connection, seen: list[Observation]) -> None:
        if not seen:
            return
        context = self._context(connection.key, connection.client)
        if context is None:
            return
        for observation in seen:
            match observation:
                case HelloSeen():
                    self._emit_hello(connection, context, observation)
                case SessionSeen():
                    self._emit_session(connection, context, observation)
                case CertificatesSeen():
                    self._emit_certificates(context, observation)

    def _find_handshake(self, key: bytes, born_ns: int, midstream: bool) -> Handshake | None:
        """The opening of a connection in the tables; its times are those of one clock."""
        handshake = self._tables.handshake(key, born_ns, midstream)
        return None if handshake is None else handshake.keep_even(self._clock.even)

    def _recall_hello(self, connection: Connection, signature: int) -> None:
        """The kernel hid the ClientHello of a connection: the agent had told an equal one."""
        hello = self._emitted_hellos.recall(signature)
        if hello is None:
            self.counts["hellos_evicted"] += 1
            self._add_suppressed(self._tables.hellos.withdraw(signature))
        connection.recall(
            hello, partial(self._tables.suppressed_hello, connection.key, connection.born_ns)
        )

    def _emit_hello(self, connection: Connection, context: Context, seen: HelloSeen) -> None:
        client = self._describe_client(seen.hello)
        headline = hello_headline(context, self._clock.wall_ns(seen.time_ns), client)
        if seen.signature:
            # Before the window closes: its summary tells them.
            self._add_suppressed(self._tables.hellos.over(seen.time_ns))
        fate = self._emitter.emit_new(
            headline,
            lambda: hello_event(
                headline,
                context,
                client,
                quality=seen.quality,
                offset=seen.offset(connection.handshake),
                handshake=connection.handshake,
                choices=self._choices,
            ),
        )
        if fate is Fate.DROPPED or not seen.signature:
            return
        opened = self._emitter.window(headline)
        if opened is not None and self._emitted_hellos.remember(seen.signature, seen.hello):
            window, end_ns = opened
            until_ns = seen.time_ns + end_ns - headline.time_ns
            self._add_suppressed(self._tables.hellos.open(seen.signature, window, until_ns))

    def _emit_session(self, connection: Connection, context: Context, seen: SessionSeen) -> None:
        server = self._describe_server(seen.hello)
        client = self._describe_client(seen.client) if seen.client is not None else None
        headline = session_headline(context, self._clock.wall_ns(seen.time_ns), server, client)
        self._emitter.emit_new(
            headline,
            lambda: session_event(
                headline,
                context,
                server,
                client=client,
                resumed=seen.resumed,
                handshake=connection.handshake,
                choices=self._choices,
            ),
        )

    def _emit_certificates(self, context: Context, seen: CertificatesSeen) -> None:
        leaf = self._certificates.describe(seen.chain[0])
        headline = certificate_headline(context, self._clock.wall_ns(seen.time_ns), leaf)
        self._emitter.emit_new(
            headline,
            lambda: certificate_event(
                headline,
                context,
                self._describe_leaf(leaf),
                (leaf, *[self._certificates.describe(der) for der in seen.chain[1:]]),
                chain_length=seen.chain_length,
                from_client=seen.from_client,
                quality=seen.quality,
                sni=wire_text(seen.client.server_name or b"") if seen.client is not None else "",
                choices=self._choices,
            ),
        )

    def _context(self, key: bytes, client: int) -> Context | None:
        """Where the events of a connection belong; None, and counted, if it is of no decky."""
        identity = key, client & 1
        context = self._contexts.get(identity)
        if context is None:
            context = locate(self.registry, ends(*identity))
            if context is None:
                self.counts["unregistered"] += 1
                return None
            if len(self._contexts) >= CONTEXTS:
                self._contexts.clear()
            self._contexts[identity] = context
        return context

    def _likely_client(self, key: bytes) -> int:
        """Who opened a connection of which only the middle was seen: nothing in it tells.

        A decky is taken for the server, between two the lower port; end 0 has the lower port.
        """
        low, high = key[:16] in self.registry, key[16:32] in self.registry
        return 0 if high and not low else 1


def _described(
    describe: Callable[..., _D],
    choices: Choices,
    keeps: Callable[[_K], bool] = lambda _: True,
    memory: Callable[[_K], int] = lambda _: 0,
) -> Described[_K, _D]:
    return Described(partial(describe, choices=choices), keeps, memory)


def _is_end_sent(state: tuple[int, int, int, int]) -> bool:
    """Whether there is nothing left to tell of what FlowBatch.states gives."""
    _, close, flags, _ = state
    return close != abi.CLOSE_NONE and bool(flags & abi.FLOW_END_SENT)
