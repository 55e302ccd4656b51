"""Assembles the parts of a capture by the settings, for `run` and `replay` alike."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from deckwire.abi import structs as abi
from deckwire.abi.samples import Sample
from deckwire.clock import Clock
from deckwire.config import Settings
from deckwire.deckies import Registry
from deckwire.events.choices import Choices
from deckwire.events.dedup import Dedup
from deckwire.fingerprints.identity import Identifier
from deckwire.kernel.loading import Loaded
from deckwire.output.emitter import Emitter
from deckwire.output.sinks.fanout import Fanout
from deckwire.pipeline.dispatch import Pipeline
from deckwire.resilience.containment import Containment
from deckwire.resilience.report import report
from deckwire.runtime.counters import Intake, Stats
from deckwire.runtime.ordering import Ordering
from deckwire.tables.tables import Tables

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one capture, from the kernel's tables to the outputs."""

    tables: Tables
    intake: Intake
    ordering: Ordering[Sample]
    pipeline: Pipeline
    emitter: Emitter
    outputs: Fanout
    stats: Stats
    containment: Containment
    host: str


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


def assemble(
    settings: Settings,
    loaded: Loaded,
    registry: Registry,
    clock: Clock,
    outputs: Fanout,
    identify: Identifier,
    containment: Containment | None = None,
) -> Parts:
    """Assemble everything after the rings, and make the kernel watch the registry's deckies.

    Raises:
        DeckiesRefused: the kernel refused the registry's deckies.
    """
    host = socket.gethostname()
    containment = containment or Containment(report)
    tables = Tables(loaded.maps)
    dedup = Dedup(settings.dedup_ttl)
    emitter = Emitter(
        dedup, outputs.offer, host, containment, outputs.wants if outputs.filters else None
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
        ),
        idle_ns=round(settings.idle_timeout * _NS),
        containment=containment,
    )
    pipeline.replace_registry(registry)
    intake = Intake()
    ordering: Ordering[Sample] = Ordering()
    stats = Stats(
        tables=tables,
        rings=loaded.rings,
        intake=intake,
        ordering=ordering,
        pipeline=pipeline,
        emitter=emitter,
        dedup=dedup,
        outputs=outputs,
        containment=containment,
    )
    return Parts(tables, intake, ordering, pipeline, emitter, outputs, stats, containment, host)
