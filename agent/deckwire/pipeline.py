"""From samples in order to events: the same for live traffic and for captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from deckwire import abi
from deckwire.certificate import CertificateCache
from deckwire.clock import Clock
from deckwire.connection import CertificatesSeen, Connection, HelloSeen, Observation, SessionSeen
from deckwire.connections import Connections
from deckwire.deckies import Registry
from deckwire.event import Event
from deckwire.events.certificate import certificate_event
from deckwire.events.choices import Choices
from deckwire.events.client import ClientCache, wire_text
from deckwire.events.flow import flow_event, is_probe
from deckwire.events.handshake import handshake_event
from deckwire.events.hello import hello_event
from deckwire.events.place import Place, locate
from deckwire.events.session import session_event
from deckwire.events.syn import syn_event
from deckwire.fingerprints.identity import Identifier
from deckwire.flow import FlowRecord, ends
from deckwire.opening import Opening
from deckwire.sample import (
    EndSample,
    HandshakeSample,
    MalformedSample,
    Sample,
    SegmentSample,
    SynSample,
    flow_record,
)
from deckwire.tables import OpenFlow, Tables
from deckwire.teller import Fate, Teller

_LINGER_NS = 10_000_000_000
"""A closed entry stays so long, so that late segments make no ghost."""


class Pipeline:
    """Takes samples in the order of their times and tells events. For one thread."""

    def __init__(
        self,
        *,
        registry: Registry,
        tables: Tables,
        teller: Teller,
        clock: Clock,
        identifier: Identifier,
        choices: Choices,
        idle_ns: int,
    ) -> None:
        self.registry = registry
        self.counts: Counter[str] = Counter()
        """What was dropped on purpose, by cause."""
        self.connections = Connections(tables.handshake)
        self._tables = tables
        self._teller = teller
        self._clock = clock
        self._identifier = identifier
        self._choices = choices
        self._idle_ns = idle_ns
        self._clients = ClientCache(choices)
        self._certificates = CertificateCache()

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

    def sweep(self, now_ns: int) -> None:
        """End what has idled by the samples' clock, tell what the rings had no room for."""
        for flow in self._tables.open_flows():
            self._sweep_one(flow, now_ns)
        self._teller.close_windows(self._clock.wall_ns(now_ns))

    def replace_registry(self, registry: Registry) -> None:
        """Watch other deckies; connections of those that left end with ``removed``."""
        added, removed = registry.difference(self.registry)
        for decky in added:
            self._tables.watch(decky)
        for decky in removed:
            self._tables.unwatch(decky)
        if removed:
            gone = {decky.packed for decky in removed}
            for flow in self._tables.open_flows():
                low, high = flow.key[:16], flow.key[16:32]
                others = {low, high} - gone
                if len(others) < 2 and not any(end in registry for end in others):
                    self._end_open(flow, "removed")
        self.registry = registry

    def finish(self) -> None:
        """The end: every connection is told."""
        for flow in self._tables.open_flows():
            self._end_open(flow, "shutdown")
        while (ended := self.connections.end_any()) is not None:
            self._tell_observations(*ended)
        self._teller.close_windows(self._clock.wall_ns(self._clock.now_ns()), all_of_them=True)

    # --- samples ---

    def _syn(self, sample: SynSample) -> None:
        self._tell_syn(sample.key, sample.client, sample.syn, sample.signature)

    def _handshake(self, sample: HandshakeSample) -> None:
        handshake = sample.handshake
        self.connections.opened(sample.key, sample.born_ns, handshake)
        if handshake.syn is not None and not sample.syn_sampled:
            # Cut by a budget or hidden by an older window: no honest client is lost to a flood.
            self._tell_syn(sample.key, sample.client, handshake.syn, sample.signature)
        place = self._place(sample.key, sample.client)
        if place is not None:
            time_ns = self._clock.wall_ns(sample.time_ns)
            self._teller.tell(handshake_event(place, time_ns, handshake, self._choices))

    def _segment(self, sample: SegmentSample) -> None:
        found = self.connections.add(sample)
        if found is not None:
            self._tell_observations(*found)
        while (evicted := self.connections.over_bounds()) is not None:
            self._tell_observations(*evicted)

    def _end(self, key: bytes, record: FlowRecord, close: str) -> None:
        """`close` says why where the record itself does not."""
        client = record.client
        ended = self.connections.end(key, record.born_ns)
        if ended is not None:
            client = ended[0].client
            self._tell_observations(*ended)
        if is_probe(record):
            self.counts["flow_probes"] += 1
            return
        if client == abi.CLIENT_UNKNOWN:
            client = self._likely_client(key)
        place = self._place(key, client)
        if place is not None:
            time_ns = self._clock.wall_ns(record.last_ns)
            self._teller.tell(flow_event(place, time_ns, record, client, record.close or close))

    # --- tables ---

    def _sweep_one(self, flow: OpenFlow, now_ns: int) -> None:
        close, told, last_ns = _ending(flow.value)
        quiet_ns = now_ns - last_ns
        if close:
            if not told:
                self._end_open(flow, "")
            elif quiet_ns >= _LINGER_NS:
                self._tables.forget(flow)
        elif quiet_ns >= self._idle_ns:
            self._end_open(flow, "idle")

    def _end_open(self, flow: OpenFlow, close: str) -> None:
        """End a connection that the kernel has in a table, unless it has told it already."""
        self._tables.forget(flow)
        closed, told, _ = _ending(flow.value)
        if closed and told:
            return
        try:
            record = flow_record(flow.value)
        except MalformedSample as error:
            self.counts[str(error)] += 1
            return
        self._end(flow.key, record, close)

    # --- telling ---

    def _tell_syn(self, key: bytes, client: int, syn: Opening, signature: int) -> None:
        place = self._place(key, client)
        if place is None:
            return
        identity = self._identifier.identify(syn, place.ends.server, place.ends.server_port)
        time_ns = self._clock.wall_ns(syn.time_ns)
        event = syn_event(place, time_ns, syn, identity, self._choices)
        fate = self._teller.tell(event)
        end_ns = self._teller.window_end_ns(event)
        if fate is not Fate.DROPPED and signature and end_ns is not None:
            until_ns = syn.time_ns + end_ns - time_ns
            self._tables.suppress_syn(signature, until_ns, syn.time_ns)

    def _tell_observations(self, connection: Connection, seen: list[Observation]) -> None:
        if not seen:
            return
        place = self._place(connection.key, connection.client)
        if place is None:
            return
        for event in self._events(connection, place, seen):
            self._teller.tell(event)

    def _events(
        self, connection: Connection, place: Place, seen: list[Observation]
    ) -> Iterator[Event]:
        for observation in seen:
            time_ns = self._clock.wall_ns(observation.time_ns)
            handshake = connection.handshake
            match observation:
                case HelloSeen(hello=hello, quality=quality, offset=offset):
                    client = self._clients.describe(hello)
                    yield hello_event(
                        place,
                        time_ns,
                        client,
                        quality=quality,
                        offset=offset,
                        handshake=handshake,
                        choices=self._choices,
                    )
                case SessionSeen(hello=server, client=client_hello):
                    offer = None
                    if client_hello is not None:
                        offer = client_hello, self._clients.describe(client_hello)
                    yield session_event(
                        place,
                        time_ns,
                        server,
                        offer=offer,
                        handshake=handshake,
                        choices=self._choices,
                    )
                case CertificatesSeen():
                    yield self._certificate(place, time_ns, observation)

    def _certificate(self, place: Place, time_ns: int, observation: CertificatesSeen) -> Event:
        sni = ""
        if observation.client is not None:
            sni = wire_text(observation.client.server_name or b"")
        return certificate_event(
            place,
            time_ns,
            tuple([self._certificates.describe(der) for der in observation.chain]),
            chain_length=observation.chain_length,
            from_client=observation.from_client,
            quality=observation.quality,
            sni=sni,
            choices=self._choices,
        )

    def _place(self, key: bytes, client: int) -> Place | None:
        place = locate(self.registry, ends(key, client & 1))
        if place is None:
            self.counts["unregistered"] += 1
        return place

    def _likely_client(self, key: bytes) -> int:
        """Who opened a connection of which only the middle was seen: nothing in it tells.

        A decky is taken for the server, between two the lower port; end 0 has the lower port.
        """
        low, high = key[:16] in self.registry, key[16:32] in self.registry
        return 0 if high and not low else 1


_LAST_NS = slice(16, 24)
_CLOSE, _FLAGS = 57, 58
"""Offsets in struct flow: a sweep looks at every entry, decoding each would cost 30 us."""


def _ending(value: bytes) -> tuple[bool, bool, int]:
    """Whether a struct flow is closed, whether that was told, and its last packet's time."""
    return (
        value[_CLOSE] != abi.CLOSE_NONE,
        bool(value[_FLAGS] & abi.FLOW_TOLD),
        int.from_bytes(value[_LAST_NS], "little"),
    )
