"""Makes events of observations: their context, their fields, their suppression window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from deckwire.abi import structs as abi
from deckwire.abi.begun import Begun
from deckwire.abi.flow_key import ends
from deckwire.abi.hashes import service_signature
from deckwire.abi.samples import AnomalySample
from deckwire.abi.sources import Source
from deckwire.clock import Clock
from deckwire.connections.connection import Connection
from deckwire.connections.head_connection import HeadConnection, HeadSeen
from deckwire.connections.http_connection import HttpSeen
from deckwire.connections.observations import (
    AnomalySeen,
    CertificatesSeen,
    HelloSeen,
    Observation,
    SessionSeen,
)
from deckwire.connections.payload import PayloadSeen
from deckwire.connections.ssh_connection import SshSeen
from deckwire.connections.suppressed_head import EmittedHeads
from deckwire.connections.suppressed_hello import EmittedHellos
from deckwire.connections.uptimes import Uptime, Uptimes
from deckwire.deckies import Registry
from deckwire.events.anomaly import anomaly_event
from deckwire.events.anomaly import headline as anomaly_headline
from deckwire.events.certificate import certificate_event
from deckwire.events.certificate import headline as certificate_headline
from deckwire.events.choices import Choices
from deckwire.events.client import wire_text
from deckwire.events.context import Context, locate
from deckwire.events.dedup import Key
from deckwire.events.event import Event, Headline
from deckwire.events.flow import flow_event
from deckwire.events.flow import headline as flow_headline
from deckwire.events.handshake import handshake_event
from deckwire.events.handshake import headline as handshake_headline
from deckwire.events.hello import headline as hello_headline
from deckwire.events.hello import hello_event
from deckwire.events.http_redaction import without_credentials
from deckwire.events.http_request import headline as http_headline
from deckwire.events.http_request import http_event, needs_redaction
from deckwire.events.ignore import IgnoreRules, Traffic
from deckwire.events.session import headline as session_headline
from deckwire.events.session import session_event
from deckwire.events.ssh_banner import headline as ssh_headline
from deckwire.events.ssh_banner import ssh_event
from deckwire.events.stack import Stack
from deckwire.events.syn import headline as syn_headline
from deckwire.events.syn import syn_event
from deckwire.events.tcp_payload import describe as describe_payload
from deckwire.events.tcp_payload import headline as payload_headline
from deckwire.events.tcp_payload import payload_event, redactor_for
from deckwire.events.turned import turned
from deckwire.fingerprints.identity import Identifier
from deckwire.fingerprints.scanners import Tool
from deckwire.limits import CONTEXTS
from deckwire.output.emitter import Emitter
from deckwire.pipeline.attribution import Attribution
from deckwire.pipeline.describing import Descriptions
from deckwire.pipeline.fragmented import FragmentedConnections
from deckwire.pipeline.giveaways import Giveaways
from deckwire.pipeline.lateral import Act, LateralHold
from deckwire.pipeline.windows import IgnoredBy, Windows
from deckwire.resilience.bounded import Bounded
from deckwire.resilience.containment import Containment
from deckwire.scans.author import Author
from deckwire.tables.suppression import Suppression
from deckwire.tables.tables import Tables
from deckwire.tcp import options as tcp_options
from deckwire.tcp.flow import FlowRecord, has_ports
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.syn_packet import SynPacket
from deckwire.tls.messages import ClientHello


class Reporter:
    """Makes events of observations and offers them to the emitter."""

    def __init__(
        self,
        *,
        registry: Registry,
        tables: Tables,
        emitter: Emitter,
        windows: Windows,
        clock: Clock,
        identifier: Identifier,
        choices: Choices,
        counts: Counter[str],
        attribution: Attribution,
        containment: Containment,
        fragmented: FragmentedConnections,
    ) -> None:
        self._registry = registry
        self._seed = tables.seed
        self._tables = tables
        self._emitter = emitter
        self._windows = windows
        self._clock = clock
        self._choices = choices
        self._counts = counts
        self._describe = Descriptions(identifier, choices)
        self._emitted_hellos = EmittedHellos()
        self._emitted_heads = EmittedHeads()
        self._contexts: Bounded[tuple[bytes, int], Context] = Bounded(CONTEXTS)
        self._attribution = attribution
        self._fragmented = fragmented
        self._uptimes = Uptimes(clock.even)
        self._giveaways = Giveaways(registry, emitter, clock, identifier, self._emit, counts)
        self.lateral = LateralHold(emitter.emit, counts, containment)
        """Events of connections between deckies that wait."""
        self.own_addresses: frozenset[bytes] = frozenset()
        """Addresses of this host, in 16 bytes, if its connections are to be ignored."""
        self._ignored: IgnoreRules | None = None
        """None without rules, because each event asks."""
        self.note_author: Callable[[bytes, Author], None] = lambda _address, _author: None
        """Takes what a SYN shows of its sender."""

    @property
    def registry(self) -> Registry:
        """The deckies by whose names and addresses events are reported."""
        return self._registry

    @registry.setter
    def registry(self, registry: Registry) -> None:
        self._registry = registry
        self._giveaways.registry = registry
        # The direction of a connection depends on it.
        self._windows.look_again()
        self._contexts.clear()

    def ignore(self, rules: IgnoreRules) -> None:
        """Emit nothing of what matches these rules, and count it."""
        self._ignored, self._giveaways.ignored = rules or None, rules
        self._windows.look_again()

    def sent(self, begun: Begun) -> None:
        """Report datagrams that a decky has sent on its own."""
        self._giveaways.sent(begun)

    def probed(self, source: Source, now_ns: int) -> None:
        """Report what the answers to a source's probes show of the deckies."""
        self._giveaways.probed(source, now_ns)

    def syn(self, key: bytes, client: int, syn: SynPacket, signature: int) -> None:
        """Report a SYN; `signature` is the kernel's, 0 if it has none."""
        if self._fragmented.seen and not syn.reassembled:
            self._fragmented.begins(key, syn.time_ns)
        if syn.options_cut:
            # Most input of a fingerprint is missing.
            self._counts["syn_options_cut"] += 1
        context = self._context(key, client)
        if context is None:
            return
        stack = None if syn.options_cut else self._describe.stack(context, syn, signature)
        if stack is not None and not self._is_own(context):
            self._syn(key, context, syn, stack, signature)
        self._giveaways.initiated(key, context, syn.time_ns, syn, stack)

    def _syn(
        self, key: bytes, context: Context, syn: SynPacket, stack: Stack, signature: int
    ) -> None:
        self.note_author(context.ends.client, stack.author)
        uptime = self._uptime(context, syn)
        headline = syn_headline(
            context, syn, self._clock.wall_ns(syn.time_ns), stack, self._choices
        )
        self._emit(
            key,
            context,
            syn.time_ns,
            headline,
            lambda: syn_event(headline, context, syn, stack, uptime),
            table=self._windows.syns,
            signature=signature,
        )

    def _uptime(self, context: Context, syn: SynPacket) -> Uptime | None:
        """How long the source of a SYN has been up, if its SYNs show it."""
        if syn.reassembled:
            return None
        ends = context.ends
        stamp = tcp_options.stamp(syn.options)
        return self._uptimes.take(ends.client, ends.server, syn.time_ns, stamp)

    def handshake(self, key: bytes, client: int, time_ns: int, handshake: Handshake) -> None:
        """Report a completed handshake; `time_ns` is the kernel's time of the final ACK."""
        context = self._context(key, client)
        if context is None:
            return
        if handshake.syn is None:
            self._giveaways.initiated(key, context, time_ns, None, None)
        self._giveaways.answered(context, handshake)
        headline = handshake_headline(context, self._clock.wall_ns(time_ns))
        self._emit(
            key,
            context,
            time_ns,
            headline,
            lambda: handshake_event(
                headline, context, handshake, self._choices, self._describe.server_stack(handshake)
            ),
            table=self._windows.services,
            signature=self._service(key, client, abi.SERVICE_HANDSHAKE),
        )

    def flow(
        self, key: bytes, client: int, record: FlowRecord, close: str, tool: Tool | None = None
    ) -> None:
        """Report a connection's end; `close` is how it ended."""
        context = self._context(key, client)
        if context is None:
            return
        headline = flow_headline(context, self._clock.wall_ns(record.last_ns), record)
        self._emit(
            key,
            context,
            record.last_ns,
            headline,
            lambda: flow_event(headline, context, record, client, close, tool),
            table=self._windows.services,
            # The kernel suppresses nothing because of what anybody can have forged.
            signature=self._service(key, client, abi.SERVICE_FLOW) if record.proven else 0,
        )
        self._fragmented.ended(key)

    def anomaly(self, sample: AnomalySample) -> None:
        """Report a frame that the kernel side does not believe."""
        context = self._context(sample.key, sample.client)
        if context is None:
            return
        headline = anomaly_headline(
            context, self._clock.wall_ns(sample.time_ns), sample.anomaly, proven=sample.born_ns != 0
        )
        self._emit(
            sample.key,
            context,
            sample.time_ns,
            headline,
            lambda: anomaly_event(
                headline,
                context,
                sample.anomaly,
                from_client=sample.sender == sample.client,
                client=None,
                unseen=sample.born_ns == 0,
                has_ports=has_ports(sample.key),
            ),
            table=self._windows.anomalies,
            signature=sample.signature,
        )

    def observations(self, connection: Connection, seen: list[Observation]) -> None:
        """Report what a connection's TLS has shown."""
        if not seen:
            return
        context = self._context(connection.key, connection.client)
        if context is None:
            return
        for observation in seen:
            match observation:
                case HelloSeen():
                    self._hello(connection, context, observation)
                case SessionSeen():
                    self._session(connection, context, observation)
                case CertificatesSeen():
                    self._certificates(connection, context, observation)
                case AnomalySeen():
                    self._anomaly(connection, context, observation)

    def heads(self, connection: HeadConnection, seen: list[HeadSeen]) -> None:
        """Report what the ends of a connection have said first."""
        context = self._context(connection.key, connection.client) if seen else None
        if context is None:
            return
        for one in seen:
            match one:
                case SshSeen():
                    self._banner(connection, context, one)
                case HttpSeen():
                    self._request(connection, context, one)
                case PayloadSeen():
                    self._payload(connection, context, one)

    def recall_hello(self, signature: int) -> ClientHello | None:
        """The ClientHello of a signature that the kernel suppresses; None if it was evicted."""
        hello = self._emitted_hellos.recall(signature)
        if hello is None:
            self._counts["hellos_evicted"] += 1
            self._windows.withdraw_hello(signature)
        return hello

    def recall_head(self, signature: int) -> bytes | None:
        """What an end of SSH had sent up to a signature; None if it was evicted."""
        head = self._emitted_heads.recall(signature)
        if head is None:
            self._counts["ssh_heads_evicted"] += 1
            self._windows.withdraw_hello(signature)
        return head

    def _hello(self, connection: Connection, context: Context, seen: HelloSeen) -> None:
        client = self._describe.client(seen.hello)
        headline = hello_headline(
            context,
            self._clock.wall_ns(seen.time_ns),
            client,
            self._choices,
            proven=connection.proven,
        )
        self._emit(
            connection.key,
            context,
            seen.time_ns,
            headline,
            lambda: hello_event(
                headline,
                context,
                client,
                quality=seen.quality,
                offset=seen.offset(connection.handshake),
                handshake=connection.handshake,
                choices=self._choices,
                unseen=connection.unseen,
                is_reversed=seen.reversed,
            ),
            table=self._windows.hellos,
            signature=seen.signature,
            may_open=lambda: self._emitted_hellos.remember(seen.signature, seen.hello),
            is_reversed=seen.reversed,
        )

    def _session(self, connection: Connection, context: Context, seen: SessionSeen) -> None:
        server = self._describe.server(seen.hello)
        client = self._describe.client(seen.client) if seen.client is not None else None
        again = seen.after_retry
        after_retry = self._describe.server(again) if again is not None else None
        headline = session_headline(
            context,
            self._clock.wall_ns(seen.time_ns),
            server,
            client,
            self._choices,
            proven=connection.proven,
        )
        self._emit(
            connection.key,
            context,
            seen.time_ns,
            headline,
            lambda: session_event(
                headline,
                context,
                server,
                client=client,
                resumed=seen.resumed,
                handshake=connection.handshake,
                choices=self._choices,
                unseen=connection.unseen,
                after_retry=after_retry,
                is_reversed=seen.reversed,
            ),
            is_reversed=seen.reversed,
        )

    def _certificates(
        self, connection: Connection, context: Context, seen: CertificatesSeen
    ) -> None:
        # The client of TLS may be the end that did not open the connection.
        if seen.from_client != seen.reversed and self._is_own(context):
            return
        describe = self._describe.certificate
        leaf = describe(seen.chain[0])
        headline = certificate_headline(
            context,
            self._clock.wall_ns(seen.time_ns),
            leaf,
            self._choices,
            proven=connection.proven,
        )
        self._emit(
            connection.key,
            context,
            seen.time_ns,
            headline,
            lambda: certificate_event(
                headline,
                context,
                self._describe.leaf(leaf),
                (leaf, *[describe(der) for der in seen.chain[1:]]),
                chain_length=seen.chain_length,
                from_client=seen.from_client,
                quality=seen.quality,
                sni=wire_text(seen.client.server_name or b"") if seen.client is not None else "",
                choices=self._choices,
                is_reversed=seen.reversed,
                unseen=connection.unseen,
            ),
            is_reversed=seen.reversed,
        )

    def _banner(self, connection: HeadConnection, context: Context, seen: SshSeen) -> None:
        from_decky = (seen.sender == connection.client) == context.turned
        # A client's banner is filed under src_ip, and in outbound connections a server's is too.
        if self._attribution.outbound_peer and from_decky and (seen.is_client or context.turned):
            self._counts["outbound_own_left_out"] += 1
            return
        headline = ssh_headline(
            context,
            self._clock.wall_ns(seen.time_ns),
            is_client=seen.is_client,
            banner=seen.banner,
            kexinit=seen.kexinit,
            choices=self._choices,
            proven=connection.proven,
        )
        # The kernel knows who opened a connection, and not who the SSH client is.
        links = [] if seen.reversed else connection.links(seen.sender)
        signatures = [signature for signature, _ in links]
        self._emit(
            connection.key,
            context,
            seen.time_ns,
            headline,
            lambda: ssh_event(
                headline,
                context,
                is_client=seen.is_client,
                is_reversed=seen.reversed,
                banner=seen.banner,
                kexinit=seen.kexinit,
                unseen=connection.unseen,
            ),
            table=self._windows.hellos,
            signature=signatures.pop() if signatures else 0,
            earlier=signatures,
            may_open=lambda: all(
                self._emitted_heads.remember(signature, head) for signature, head in links
            ),
        )

    def _request(self, connection: HeadConnection, context: Context, seen: HttpSeen) -> None:
        request, redactor = seen.request, redactor_for(context, self._choices)
        redacted = False
        if redactor is not None:
            request = without_credentials(request, redactor)
            redacted = needs_redaction(seen.request, request)
        headline = http_headline(
            context,
            self._clock.wall_ns(seen.time_ns),
            request,
            self._choices,
            proven=connection.proven,
        )
        self._emit(
            connection.key,
            context,
            seen.time_ns,
            headline,
            lambda: http_event(
                headline,
                context,
                request,
                seen.answer,
                number=seen.number,
                is_reversed=seen.reversed,
                choices=self._choices,
                unseen=connection.unseen,
                redacted=redacted,
            ),
            is_reversed=seen.reversed,
        )

    def _payload(self, connection: HeadConnection, context: Context, seen: PayloadSeen) -> None:
        payload = describe_payload(seen.client, seen.server, redactor_for(context, self._choices))
        headline = payload_headline(
            context, self._clock.wall_ns(seen.time_ns), payload, proven=connection.proven
        )
        self._emit(
            connection.key,
            context,
            seen.time_ns,
            headline,
            lambda: payload_event(headline, context, payload, unseen=connection.unseen),
        )

    def _anomaly(self, connection: Connection, context: Context, seen: AnomalySeen) -> None:
        client = None if seen.hello is None else self._describe.client(seen.hello)
        from_client = None if seen.sender is None else seen.sender == connection.client
        headline = anomaly_headline(
            context,
            self._clock.wall_ns(seen.time_ns),
            seen.anomaly,
            proven=connection.proven,
            client=client,
        )
        self._emit(
            connection.key,
            context,
            seen.time_ns,
            headline,
            lambda: anomaly_event(
                headline,
                context,
                seen.anomaly,
                from_client=from_client,
                client=client,
                unseen=connection.unseen,
            ),
            # Its hello is its sender's, whoever the TLS client is.
            is_reversed=from_client is False,
        )

    def _emit(
        self,
        key: bytes,
        context: Context,
        time_ns: int,
        headline: Headline,
        make: Callable[[], Event],
        *,
        table: Suppression[Key | IgnoredBy] | None = None,
        signature: int = 0,
        earlier: Sequence[int] = (),
        may_open: Callable[[], bool] = lambda: True,
        is_reversed: bool = False,
    ) -> None:
        """Have an event emitted, unless its connection's direction says otherwise.

        `table`, `signature`, `earlier` and `may_open` are those of Windows.emit, for what the
        kernel may suppress. `is_reversed` says that the client of TLS or HTTP did not open the
        connection.
        """
        rules = self._ignored
        if rules is not None and (found := rules.match(_traffic(headline.name, context))):
            self._counts[found.counter] += 1
            if table is not None and signature and self._tables.suppressing:
                self._windows.ignore(table, signature, time_ns, found)
            return
        if self._fragmented.seen:
            make = self._marked(key, time_ns, make)
        if self._attribution.outbound_peer and (context.turned or is_reversed):
            make = _with_own_names(context, make, is_reversed=is_reversed)
        if context.direction == "lateral" and self._attribution.lateral != "emit":
            self._lateral(key, context, time_ns, make)
            return
        if context.turned and context.ends.server in self.own_addresses:
            # The peer would be the attacker, and it is this host.
            self._counts["outbound_to_own_host"] += 1
            return
        if table is None or not self._tables.suppressing:
            self._emitter.emit_new(headline, make)
        else:
            self._windows.emit(
                table, signature, time_ns, headline, make, earlier=earlier, may_open=may_open
            )

    def _lateral(
        self, key: bytes, context: Context, time_ns: int, make: Callable[[], Event]
    ) -> None:
        """Hold or drop an event of a connection between deckies."""
        if self._attribution.lateral == "drop":
            self._counts["lateral_dropped"] += 1
            return
        ends = context.ends
        opener = self._registry.name_of(ends.client) or context.source
        act = Act(opener, context.destination, ends.server_port)
        # The kernel suppresses none of these events, because it is not yet known which ones count.
        self.lateral.take(key, act, time_ns, self._clock.now_ns(), make())

    def _marked(self, key: bytes, time_ns: int, make: Callable[[], Event]) -> Callable[[], Event]:
        """The same with the fragments in which the connection came, if it did."""
        fragments = self._fragmented.count(key, time_ns)
        if not fragments:
            return make

        def marked() -> Event:
            event = make()
            return event._replace(parts=(*event.parts, ("fragments", fragments)))

        return marked

    def _is_own(self, context: Context) -> bool:
        """Whether a SYN or a certificate of the client is of a decky, and so left out, counted."""
        if context.turned:
            self._counts["outbound_own_left_out"] += 1
        return context.turned

    def _service(self, key: bytes, client: int, event: int) -> int:
        """The kernel's signature of a client and a service; 0 if it suppresses nothing."""
        return service_signature(key, client, self._seed, event) if self._tables.suppressing else 0

    def _context(self, key: bytes, client: int) -> Context | None:
        """The context of a connection's events; None, and counted, if it has no decky."""
        identity = key, client & 1
        context = self._contexts.get(identity)
        if context is None:
            context = locate(
                self._registry, ends(*identity), peer_first=self._attribution.outbound_peer
            )
            if context is None:
                self._counts["unregistered"] += 1
                return None
            self._contexts.put(identity, context)
        return context


def _traffic(event: str, context: Context) -> Traffic:
    """What rules ask of an event."""
    ends = context.ends
    source, destination = ends.client, ends.server
    if context.turned:
        source, destination = destination, source
    return Traffic(
        event, source, destination, ends.server_port, context.protocol, context.direction
    )


def _with_own_names(
    context: Context, make: Callable[[], Event], *, is_reversed: bool
) -> Callable[[], Event]:
    """The same with the decky's fingerprints under names of their own."""
    return lambda: turned(make(), outbound=context.turned, is_reversed=is_reversed)
