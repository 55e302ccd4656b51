"""Putting the parts together as the settings say: the same for `run` and `replay`."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from deckwire import abi
from deckwire.clock import Clock
from deckwire.config import Settings
from deckwire.deckies import Registry
from deckwire.dedup import Dedup
from deckwire.events.choices import Choices
from deckwire.fingerprints import p0f_db
from deckwire.fingerprints.identity import Identifier
from deckwire.jsonl import JsonFormat
from deckwire.kernel.loading import Loaded
from deckwire.pipeline import Pipeline
from deckwire.sinks.fanout import Fanout, Format
from deckwire.sinks.sink import Sink
from deckwire.sinks.spec import parse_output
from deckwire.stats import Intake, Stats
from deckwire.syslog import SyslogFormat
from deckwire.tables import Tables
from deckwire.teller import Teller

_NS = 1_000_000_000
_FLOWS_PER_SOURCE = 65_536
"""A quarter of the flows table for one source address."""
_HANDSHAKE_BURST_S = 2


@dataclass(frozen=True, slots=True)
class Parts:
    """What one capture is made of, from the kernel's tables to the outputs."""

    tables: Tables
    intake: Intake
    pipeline: Pipeline
    teller: Teller
    outputs: Fanout
    stats: Stats
    host: str


def kernel_settings(settings: Settings) -> Mapping[str, int]:
    """struct settings: rates become the time that one record costs."""
    budgets = settings.budgets
    syn_cost = _NS // budgets.syn_records_per_second
    handshake_cost = _NS // budgets.handshakes_per_second_per_source
    return {
        # So that nobody outside can aim at a slot of a direct-mapped table.
        "seed": secrets.randbits(64),
        "syn_cost_ns": syn_cost,
        "syn_burst_ns": syn_cost * budgets.syn_burst,
        "handshake_cost_ns": handshake_cost,
        "handshake_burst_ns": _HANDSHAKE_BURST_S * _NS,
        "flows_per_source": _FLOWS_PER_SOURCE,
        "dedup": int(settings.dedup_ttl > 0),
    }


def expect_echoes(loaded: Loaded) -> None:
    """Count lateral frames of VEPA parents once; call whenever something was attached."""
    if any(attachment.vepa for attachment in loaded.attachments):
        table = loaded.maps["settings"]
        key = bytes(table.key_size)
        value = table.lookup(key)
        if value is not None:
            current = abi.SETTINGS.parse(value)
            current.vepa = 1
            table.update(key, abi.SETTINGS.build(current))


def line_format(settings: Settings) -> Format:
    """Raises ValueError for names that cannot stand in a syslog line."""
    if settings.format == "syslog":
        return SyslogFormat(app_name=settings.app_name, sd_id=settings.sd_id)
    return JsonFormat()


def open_sinks(settings: Settings) -> list[Sink]:
    """The outputs, not yet started; raises ValueError, or OSError for a file."""
    return [parse_output(output)() for output in settings.outputs]


def open_outputs(settings: Settings) -> Fanout:
    """All outputs as one; raises as `line_format` and `open_sinks`."""
    return Fanout(line_format(settings), open_sinks(settings))


def identifier(settings: Settings) -> Identifier:
    """Raises OSError or SignatureError for a signature file that cannot be used."""
    if settings.p0f_db is not None:
        return Identifier(p0f_db.load(settings.p0f_db))
    return Identifier(p0f_db.load_own())


def assemble(
    settings: Settings,
    loaded: Loaded,
    registry: Registry,
    clock: Clock,
    outputs: Fanout,
    identify: Identifier,
) -> Parts:
    """Everything behind the rings; the kernel watches the registry's deckies afterwards.

    Raises:
        OSError: the kernel refused a decky.
    """
    host = socket.gethostname()
    tables = Tables(loaded.maps)
    dedup = Dedup(settings.dedup_ttl)
    teller = Teller(dedup, outputs.offer, host)
    pipeline = Pipeline(
        registry=Registry(),
        tables=tables,
        teller=teller,
        clock=clock,
        identifier=identify,
        choices=Choices(
            raw_fingerprints=settings.raw_fingerprints,
            ja4plus=settings.ja4plus,
            decnet=settings.compat == "decnet",
        ),
        idle_ns=round(settings.idle_timeout * _NS),
    )
    pipeline.replace_registry(registry)
    intake = Intake()
    stats = Stats(tables, intake, pipeline, teller, dedup, outputs)
    return Parts(tables, intake, pipeline, teller, outputs, stats, host)
