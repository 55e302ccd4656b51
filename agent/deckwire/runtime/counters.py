"""Every counter there is, gathered for capture_stats and for the report of losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from deckwire.abi import structs as abi
from deckwire.abi.samples import MalformedSample, Sample, decode
from deckwire.events.dedup import Dedup
from deckwire.output.emitter import Emitter, Fate
from deckwire.output.sinks.fanout import Fanout
from deckwire.pipeline.pipeline import Pipeline
from deckwire.resilience.containment import Containment
from deckwire.tables.tables import Tables

_KERNEL_LOSSES = (
    "samples_lost",
    "half_open_failed",
    "flow_insert_failed",
    "flow_source_capped",
    "midstream_failed",
    "tls_not_admitted",
)
"""Kernel counters that stand for something not told."""


class Intake:
    """Samples on their way in: received = decoded + rejected by cause."""

    def __init__(self) -> None:
        self.received = 0
        self.rejected: Counter[str] = Counter()

    def decode(self, data: bytes) -> Sample | None:
        """One ring record as a sample; None if it was rejected, which is counted."""
        self.received += 1
        try:
            return decode(data)
        except MalformedSample as error:
            self.rejected[str(error)] += 1
            return None


class Stats:
    """Reads the counters where they are kept."""

    def __init__(
        self,
        tables: Tables,
        intake: Intake,
        pipeline: Pipeline,
        emitter: Emitter,
        dedup: Dedup,
        outputs: Fanout,
        containment: Containment,
    ) -> None:
        self._tables = tables
        self._intake = intake
        self._pipeline = pipeline
        self._emitter = emitter
        self._dedup = dedup
        self._outputs = outputs
        self._containment = containment

    def sums(self) -> dict[str, int]:
        """Everything, in the order of the data's way."""
        kernel = self._tables.counters()
        sums = {"frames": sum(kernel[name] for name in abi.FRAME_COUNTERS)}
        sums |= kernel
        sums |= self._tables.evictions(kernel)
        rejected = self._intake.rejected
        sums["samples_received"] = self._intake.received
        sums["samples_decoded"] = self._intake.received - rejected.total()
        sums |= {f"samples_rejected_{cause}": count for cause, count in sorted(rejected.items())}
        connections = self._pipeline.connections
        sums["tls_connections"] = connections.counters.opened
        sums["tls_evicted"] = connections.counters.evicted
        sums["tls_segments_after_done"] = connections.counters.after_done
        sums["tls_misplaced"] = connections.counters.misplaced
        sums["tls_malformed"] = connections.counters.malformed
        sums |= dict(sorted(self._pipeline.counts.items()))
        sums |= dict(sorted(self._containment.counts.items()))
        sums["events_made"] = self._emitter.made
        sums |= {f"events_{fate.value}": self._emitter.counts[fate] for fate in Fate}
        sums["dedup_evicted"] = self._dedup.counters.evicted
        sums["dedup_summaries_lost"] = self._dedup.counters.summaries_lost
        sums["dedup_hosts_ignored"] = self._dedup.counters.hosts_ignored
        sums |= {f"output_{cause}": n for cause, n in sorted(self._outputs.losses().items())}
        return sums

    def losses(self, kernel: Mapping[str, int]) -> Mapping[str, int]:
        """What was lost since the start, by cause; `kernel` is struct counters by name."""
        lost = {name: kernel[name] for name in _KERNEL_LOSSES}
        lost |= {f"sample_{cause}": n for cause, n in self._intake.rejected.items()}
        lost |= self._containment.counts
        lost["tls_evicted"] = self._pipeline.connections.counters.evicted
        lost |= {f"output_{cause}": n for cause, n in self._outputs.losses().items()}
        return lost
