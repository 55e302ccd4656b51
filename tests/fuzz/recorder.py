"""Run the agent from ring records to events without a kernel, and keep the events."""

from __future__ import annotations

from typing import Any

from deckwire.abi.samples import decode
from deckwire.clock import CaptureClock
from deckwire.deckies import Decky, Registry, parse_address
from deckwire.events.choices import Choices
from deckwire.events.dedup import Dedup
from deckwire.events.event import Event
from deckwire.fingerprints import p0f_db
from deckwire.fingerprints.identity import Identifier
from deckwire.output.emitter import Emitter
from deckwire.pipeline.dispatch import Pipeline
from deckwire.tables.tables import Tables
from tests.fuzz.memory import memory_maps
from tests.support.uncontained import Uncontained

_REGISTRY = Registry([Decky("decky-1", parse_address("192.0.2.2"))])
_IDENTIFIER = Identifier(p0f_db.load_own())


class Recorder:
    """A pipeline that watches 192.0.2.2 as ``decky-1`` and keeps the events it emits."""

    def __init__(self, dedup_ttl: float = 0.0, choices: Choices | None = None) -> None:
        self.events: list[Event] = []
        self.maps: dict[str, Any] = memory_maps(dedup=dedup_ttl > 0)
        self.clock = CaptureClock()
        uncontained = Uncontained()
        self.emitter = Emitter(Dedup(dedup_ttl), self._offer, "sensor", uncontained)
        self.pipeline = Pipeline(
            registry=Registry(),
            tables=Tables(self.maps),
            emitter=self.emitter,
            clock=self.clock,
            identifier=_IDENTIFIER,
            choices=choices or Choices(raw_fingerprints=True),
            idle_ns=120_000_000_000,
            containment=uncontained,
        )
        self.pipeline.replace_registry(_REGISTRY)

    def take(self, record: bytes) -> None:
        """Process one ring record; raises MalformedSample if it is no sample."""
        self.pipeline.take(decode(record))

    def _offer(self, event: Event) -> bool:
        self.events.append(event)
        return True
