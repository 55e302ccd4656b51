"""Assembles the parts of a capture by the settings, for `run` and `replay` alike."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from deckwire.abi import structs as abi
from deckwire.abi.samples import Sample
from deckwire.clock import CaptureClock, Clock
from deckwire.config import Settings
from deckwire.deckies import Registry
from deckwire.events.choices import Choices
from deckwire.events.dedup import Dedup
from deckwire.events.event import Event, Headline
from deckwire.events.ignore import IgnoreRules
from deckwire.events.redaction import Redactor
from deckwire.fingerprints.identity import Identifier
from deckwire.kernel.loading import Loaded
from deckwire.kernel.names import REASSEMBLED_PROGRAM
from deckwire.kernel.own_host import OwnHostReader
from deckwire.output.bus_lines import PUBLISHED
from deckwire.output.emitter import Emitter
from deckwire.output.sinks.fanout import Fanout
from deckwire.pipeline.attribution import Attribution
from deckwire.pipeline.dispatch import Pipeline
from deckwire.resilience.containment import Containment
from deckwire.resilience.report import report
from deckwire.runtime.bus import BusService
from deckwire.runtime.counters import Intake, Stats
from deckwire.runtime.fragments import Fragments
from deckwire.runtime.ordering import Ordering
from deckwire.runtime.own_host import OwnHostWatch
from deckwire.tables.tables import Tables

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one capture, from the kernel's tables to the outputs."""

    tables: Tables
    intake: Intake
    fragments: Fragments
    ordering: Ordering[Sample]
    pipeline: Pipeline
    emitter: Emitter
    outputs: Fanout
    stats: Stats
    containment: Containment
    host: str
    dedup: Dedup


def expect_echoes(loaded: Loaded) -> None:
    """Count lateral frames of VEPA parents once. Call this after each attachment."""
    if any(attachment.vepa for attachment in loaded.attachments):
        table = loaded.maps["settings"]
        key = bytes(table.key_size)
        value = table.lookup(key)
        if value is not None:
            current = abi.SETTINGS.parse(value)
            current.vepa = 1
            table.update(key, abi.SETTINGS.build(current))


def watch_own_host(settings: Settings, loaded: Loaded, parts: Parts) -> OwnHostWatch | None:
    """Have the host's own connections ignored from now on, if that is wanted.

    Raises:
        OSError: the host's addresses cannot be read.
    """
    if settings.own_host != "ignore":
        return None
    watch = OwnHostWatch(OwnHostReader(settings.netns), parts.tables.own_host, parts.pipeline)
    watch.look(0.0, {attachment.ifindex for attachment in loaded.attachments}, at_once=True)
    return watch


def _offering(outputs: Fanout, bus: BusService | None) -> Callable[[Event], bool]:
    """What the emitter calls with each event; it returns whether an output took it."""
    if bus is None:
        return outputs.offer

    def offer(event: Event) -> bool:
        taken = outputs.offer(event)
        if taken:
            bus.publish(event)
        return taken

    return offer


def wanting(outputs: Fanout, bus: BusService | None) -> Callable[[Event | Headline], bool] | None:
    """What the emitter asks before an event is made; None if there is always a taker."""
    if not outputs.filters:
        return None
    if bus is None:
        return outputs.wants
    return lambda event: event.name in PUBLISHED or outputs.wants(event)


def dedup_keys(settings: Settings) -> int:
    """How many keys of a source and event may have windows; 0 for no bound."""
    # The old sniffer had no bound on keys.
    return 0 if settings.compat == "decnet" else settings.dedup_keys


def assemble(
    settings: Settings,
    loaded: Loaded,
    registry: Registry,
    clock: Clock,
    outputs: Fanout,
    identify: Identifier,
    containment: Containment | None = None,
    bus: BusService | None = None,
    redactor: Redactor | None = None,
) -> Parts:
    """Assemble everything after the rings, and make the kernel watch the registry's deckies.

    Events that an output takes are published on `bus` too. `redactor` replaces credentials.

    Raises:
        DeckiesRefused: the kernel refused the registry's deckies.
    """
    host = socket.gethostname()
    containment = containment or Containment(report)
    tables = Tables(loaded.maps)
    dedup = Dedup(settings.dedup_ttl, keys=dedup_keys(settings))
    emitter = Emitter(
        dedup,
        _offering(outputs, bus),
        host,
        containment,
        wanting(outputs, bus),
        settings.sensor,
    )
    pipeline = Pipeline(
        registry=Registry(),
        tables=tables,
        emitter=emitter,
        clock=clock,
        identifier=identify,
        choices=Choices(
            raw_fingerprints=settings.raw_fingerprints,
            ja4plus=settings.ja4plus,
            decnet=settings.compat == "decnet",
            sequences=settings.sequences,
            redactor=redactor,
        ),
        idle_ns=round(settings.idle_timeout * _NS),
        containment=containment,
        attribution=Attribution(
            outbound_peer=settings.outbound_source == "peer", lateral=settings.lateral
        ),
        scan_targets=settings.scan_targets,
        scan_idle_ns=round(settings.scan_idle * _NS),
        # Two replays of one capture emit the same events.
        in_order=isinstance(clock, CaptureClock),
    )
    pipeline.heads.wanted = settings.heads
    pipeline.ignore(IgnoreRules(settings.ignore))
    pipeline.replace_registry(registry)
    intake = Intake()
    fragments = Fragments(loaded.programs[REASSEMBLED_PROGRAM], pipeline.fragmented, tables.seed)
    ordering: Ordering[Sample] = Ordering()
    stats = Stats(
        tables=tables,
        rings=loaded.rings,
        intake=intake,
        fragments=fragments,
        ordering=ordering,
        pipeline=pipeline,
        emitter=emitter,
        dedup=dedup,
        outputs=outputs,
        containment=containment,
        bus=bus,
    )
    return Parts(
        *(tables, intake, fragments, ordering, pipeline, emitter, outputs, stats, containment),
        *(host, dedup),
    )
