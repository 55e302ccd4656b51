"""Deckies that give themselves away: that open connections, or are not what they play."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from deckwire.abi.begun import Begun
from deckwire.abi.sources import Answer, ProbeKind, Source, Target
from deckwire.clock import Clock
from deckwire.connections.probed_ports import ProbedPorts
from deckwire.connections.shared_host import SharedClocks, SharedCounters, Sharing
from deckwire.deckies import Decky, Registry
from deckwire.events.context import Context, locate
from deckwire.events.decky_initiated import datagram_event, datagram_headline, initiated_event
from deckwire.events.decky_initiated import headline as initiated_headline
from deckwire.events.decky_mismatch import Finding, Mismatch, mismatch_event
from deckwire.events.decky_mismatch import headline as mismatch_headline
from deckwire.events.event import Event, Headline
from deckwire.events.ignore import IgnoreRules, Traffic
from deckwire.events.stack import Stack
from deckwire.fingerprints.claimed_system import (
    counts_ids,
    family_of,
    has_zero_id,
    refusal_ttl_fault,
    system_fault,
    ttl_fault,
)
from deckwire.fingerprints.identity import Identifier
from deckwire.limits import ANSWERING_DECKIES
from deckwire.output.emitter import Emitter
from deckwire.resilience.bounded import Bounded
from deckwire.tcp import options as tcp_options
from deckwire.tcp.addresses import address_text
from deckwire.tcp.flow import Ends
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.service_ports import answering, is_listed
from deckwire.tcp.syn_packet import SynPacket

Emit = Callable[[bytes, Context, int, Headline, Callable[[], Event]], None]
"""Emits an event of a connection: flow key, context, kernel time, headline, and what makes it."""

_MISMATCH = "decky_mismatch"
_TCP = 6
_OPENING = 1 << ProbeKind.SYN | 1 << ProbeKind.CONNECT
"""Kinds of probes that any system answers alike: what others show depends on the system."""
_NS = 1_000_000_000
_ZERO_IDS = 3
"""Answers in a row with IP identification 0: a counter has it once in 65,536."""
_INITIAL_TTLS = {Answer.TTL_64: 64, Answer.TTL_128: 128, Answer.TTL_255: 255}


class Giveaways:
    """Compares deckies with what the registry says of them. For one thread."""

    def __init__(
        self,
        registry: Registry,
        emitter: Emitter,
        clock: Clock,
        identifier: Identifier,
        emit: Emit,
        counts: Counter[str],
    ) -> None:
        self.registry = registry
        self.ignored = IgnoreRules()
        self._emitter = emitter
        self._clock = clock
        self._identifier = identifier
        self._emit = emit
        self._counts = counts
        self._ports = ProbedPorts()
        self._clocks = SharedClocks()
        self._counters = SharedCounters()
        self._zero_ids: Bounded[str, int] = Bounded(ANSWERING_DECKIES)
        """Answers in a row with IP identification 0, by decky; 0 once it had another."""
        self._refusals: Bounded[bytes, int] = Bounded(ANSWERING_DECKIES)
        """By a decky's address, the latest first touch whose refusal was compared."""
        self._sharing: Bounded[tuple[Mismatch, str], bytes] = Bounded(ANSWERING_DECKIES)
        """Deckies that were reported to share something, with an address of theirs."""
        self._latest_ns = 0

    def initiated(
        self,
        key: bytes,
        context: Context,
        time_ns: int,
        syn: SynPacket | None,
        stack: Stack | None,
    ) -> None:
        """A decky has opened a connection, if it is not inbound."""
        if context.direction == "inbound":
            return
        decky = self.registry.name_of(context.ends.client)
        if decky is None:
            return
        # The decky is the source here, whoever is the attacker in other events.
        own = locate(self.registry, context.ends) if context.turned else context
        if own is None:
            return
        headline = initiated_headline(own, self._clock.wall_ns(time_ns), decky)
        peer = self.registry.name_of(own.ends.server)
        self._emit(
            key,
            own,
            time_ns,
            headline,
            lambda: initiated_event(headline, own, peer=peer, syn=syn, stack=stack),
        )

    def sent(self, begun: Begun) -> None:
        """A decky has sent datagrams that answer nobody."""
        decky = self.registry.name_of(begun.decky)
        ends = Ends(begun.decky, begun.decky_port, begun.peer, begun.port)
        context = locate(self.registry, ends) if decky is not None else None
        if decky is None or context is None:
            # It is watched no more.
            return
        context.protocol = begun.protocol
        headline = datagram_headline(context, self._clock.wall_ns(begun.time_ns), decky)
        peer = self.registry.name_of(begun.peer)
        self._emit(
            begun.decky + begun.peer + bytes((begun.protocol,)) + begun.port.to_bytes(2, "big"),
            context,
            begun.time_ns,
            headline,
            lambda: datagram_event(headline, context, begun, peer),
        )
        if begun.datagrams > 1 and (opened := self._emitter.window(headline)) is not None:
            window, _ = opened
            self._emitter.add_suppressed(
                window,
                count=begun.datagrams - 1,
                first_ns=headline.time_ns,
                last_ns=self._clock.wall_ns(begun.last_ns),
                deckies=0,
            )

    def answered(self, context: Context, handshake: Handshake) -> None:
        """A decky has sent the SYN-ACK packet of a connection, if it is not outbound."""
        if context.direction == "outbound" or handshake.synack is None:
            return
        ends = context.ends
        where = context.host, ends.server
        self._ports.answered((ends.server, ends.server_port))
        claims = self.registry.claims(ends.server)
        if claims is not None:
            for finding in self._claims(claims, ends.server_port, handshake):
                self._found(*where, handshake.synack.time_ns, finding, _traffic(context))
        synack = handshake.whole_synack
        if synack is None or synack.reassembled:
            return
        self._compare(context, synack)

    def probed(self, source: Source, now_ns: int) -> None:
        """Deckies have answered the probes of a source. `now_ns` is when that is noticed."""
        known: dict[bytes, Decky | None] = {}
        for target in source.targets:
            if target.protocol != _TCP or target.kinds & ~_OPENING or not target.answers:
                continue
            if target.decky not in known:
                known[target.decky] = self.registry.claims(target.decky)
            claims = known[target.decky]
            if claims is None:
                continue
            for finding in self._answers(claims, target, now_ns):
                direction = "lateral" if source.address in self.registry else "inbound"
                traffic = Traffic(
                    *(_MISMATCH, source.address, target.decky, target.port, _TCP, direction)
                )
                self._found(claims.name, target.decky, now_ns, finding, traffic)

    def _answers(self, claims: Decky, target: Target, now_ns: int) -> Iterator[Finding]:
        """What a decky's answer to a SYN contradicts."""
        if claims.services and (finding := self._port(claims, target, now_ns)) is not None:
            yield finding
        if claims.os is not None and target.answers >> Answer.REFUSED & 1:
            yield from self._refusal(claims, claims.os, target)

    def _refusal(self, claims: Decky, system: str, target: Target) -> Iterator[Finding]:
        """What the RST of a closed port contradicts. Each target is compared once."""
        family = family_of(system)
        before_ns = self._refusals.get(target.decky)
        if family is None or (before_ns is not None and target.first_ns <= before_ns):
            return
        self._refusals.put(target.decky, target.first_ns)
        for answer, initial in _INITIAL_TTLS.items():
            fault = refusal_ttl_fault(family, initial) if target.answers >> answer & 1 else None
            if fault is not None:
                yield Finding(Mismatch.TTL, fault, system)
        has_id, has_none = target.answers >> Answer.ID & 1, target.answers >> Answer.NO_ID & 1
        if counts_ids(family) and has_id | has_none and self._has_no_ids(claims.name, not has_id):
            yield _no_ids(family, system)

    def _port(self, claims: Decky, target: Target, now_ns: int) -> Finding | None:
        """What a port's answer to a SYN contradicts."""
        where, touched_ns = (target.decky, target.port), target.first_ns
        if target.answers >> Answer.OPEN & 1:
            is_news = self._ports.opened(where, touched_ns)
            # A completed handshake has shown it already.
            is_news &= not target.kinds >> ProbeKind.CONNECT & 1
            return _port_open(claims, target.port) if is_news else None
        service = answering(claims.services, target.port)
        if service is None or not target.answers >> Answer.REFUSED & 1:
            return None
        lasted_ns = self._ports.refused(where, target.refused_ns, now_ns)
        if lasted_ns is None:
            return None
        return Finding(
            Mismatch.PORT_CLOSED,
            f"TCP port {target.port} of its service {service} refuses SYNs with an RST, for"
            f" {lasted_ns // _NS} s at least",
            ", ".join(claims.services),
            target.port,
        )

    def _claims(self, claims: Decky, port: int, handshake: Handshake) -> Iterator[Finding]:
        """What contradicts the registry."""
        if (unlisted := _port_open(claims, port)) is not None:
            yield unlisted
        family = family_of(claims.os) if claims.os is not None else None
        synack = handshake.whole_synack
        if family is None or claims.os is None or synack is None:
            return
        identity = self._identifier.identify_synack(synack, handshake.syn)
        if (fault := system_fault(family, synack, identity)) is not None:
            yield Finding(Mismatch.SYSTEM, fault, claims.os)
        if (fault := ttl_fault(family, synack)) is not None:
            yield Finding(Mismatch.TTL, fault, claims.os)
        zero = has_zero_id(family, synack)
        if zero is not None and self._has_no_ids(claims.name, zero):
            yield _no_ids(family, claims.os)

    def _has_no_ids(self, decky: str, zero: bool) -> bool:
        count = min((self._zero_ids.get(decky) or 0) + 1, _ZERO_IDS) if zero else 0
        self._zero_ids.put(decky, count)
        return count >= _ZERO_IDS

    def _compare(self, context: Context, synack: SynPacket) -> None:
        """Compare a decky with the others."""
        if not self._clock.even(self._latest_ns, synack.time_ns):
            self._clocks.clear()
        self._latest_ns = synack.time_ns
        where = context.host, context.ends.server
        stamp = tcp_options.stamp(synack.options)
        clock = self._clocks.take(*where, context.ends.client, synack.time_ns, stamp)
        ids, isns = self._counters.take(*where, synack.ip_id, synack.seq)
        if clock is not None:
            self._shared(Mismatch.SHARED_CLOCK, context, synack.time_ns, clock)
        if ids is not None:
            self._shared(Mismatch.SHARED_IP_ID, context, synack.time_ns, ids)
        if isns is not None:
            self._shared(Mismatch.SHARED_ISN, context, synack.time_ns, isns)

    def _shared(self, mismatch: Mismatch, context: Context, time_ns: int, shared: Sharing) -> None:
        """Report a decky that shares something, and the others if they were not reported yet."""
        traffic = _traffic(context)
        for name, address in shared.deckies.items():
            if name != context.host and (mismatch, name) in self._sharing:
                continue
            self._sharing.put((mismatch, name), address)
            others = tuple(other for other in shared.deckies if other != name)
            finding = Finding(mismatch, shared.evidence, others=others)
            self._found(name, address, time_ns, finding, traffic._replace(destination=address))

    def _found(
        self, decky: str, address: bytes, time_ns: int, finding: Finding, traffic: Traffic
    ) -> None:
        if self.ignored and (counter := self.ignored.counter(traffic)) is not None:
            self._counts[counter] += 1
            return
        headline = mismatch_headline(
            decky, address_text(address), self._clock.wall_ns(time_ns), finding
        )
        self._emitter.emit_new(headline, lambda: mismatch_event(headline, finding))


def _no_ids(family: str, system: str) -> Finding:
    return Finding(
        Mismatch.IP_ID,
        f"the IP identification of {_ZERO_IDS} answers in a row is 0, and {family} counts",
        system,
    )


def _traffic(context: Context) -> Traffic:
    """What rules ask of a connection that has shown something of its server."""
    ends = context.ends
    return Traffic(_MISMATCH, ends.client, ends.server, ends.server_port, _TCP, context.direction)


def _port_open(claims: Decky, port: int) -> Finding | None:
    """A port that answers and belongs to no service; None if it may."""
    if is_listed(claims.services, port) is not False:
        return None
    services = ", ".join(claims.services)
    return Finding(
        Mismatch.PORT_OPEN,
        f"TCP port {port} answers with a SYN-ACK, and its services are {services}",
        services,
        port,
    )
