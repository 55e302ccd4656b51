"""Every counter of the capture, gathered for capture_stats and capture_loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from deckwire.abi import structs as abi
from deckwire.abi.samples import MalformedSample, Sample, decode
from deckwire.events.dedup import Dedup
from deckwire.kernel.rings import Rings
from deckwire.output.emitter import Emitter
from deckwire.output.fate import Fate
from deckwire.output.sinks.fanout import Fanout
from deckwire.pipeline.dispatch import Pipeline
from deckwire.resilience.containment import Containment
from deckwire.runtime.bus import BusService
from deckwire.runtime.fragments import Fragments
from deckwire.runtime.ordering import Ordering
from deckwire.tables.tables import Tables

_KERNEL_LOSSES = (
    "samples_lost",
    "heads_left_out",
    "half_open_failed",
    "flow_insert_failed",
    "flow_source_capped",
    "midstream_failed",
    "tls_not_admitted",
    "fragments_over_budget",
    "fragments_too_long",
)
"""Kernel counters of traffic that no event reports."""


class Intake:
    """Decodes samples and counts them: received = decoded + rejected, by cause."""

    def __init__(self) -> None:
        self.received = 0
        self.rejected: Counter[str] = Counter()

    def decode(self, data: bytes) -> Sample | None:
        """Decode one ring record; None if it was rejected, which is counted."""
        self.received += 1
        try:
            return decode(data)
        except MalformedSample as error:
            self.rejected[str(error)] += 1
            return None


def frames(kernel: Mapping[str, int]) -> int:
    """Number of frames that the programs saw; `kernel` is struct counters by name."""
    counted = sum(kernel[name] for name in abi.FRAME_COUNTERS)
    # A packet put together from fragments is no frame of its own.
    return counted - kernel["packets_reassembled"]


class Stats:
    """Reads the counters where they are kept. A test checks that none is left out."""

    def __init__(
        self,
        *,
        tables: Tables,
        rings: Rings,
        intake: Intake,
        fragments: Fragments,
        ordering: Ordering[Sample],
        pipeline: Pipeline,
        emitter: Emitter,
        dedup: Dedup,
        outputs: Fanout,
        containment: Containment,
        bus: BusService | None = None,
    ) -> None:
        self._tables = tables
        self._rings = rings
        self._intake = intake
        self._fragments = fragments
        self._ordering = ordering
        self._pipeline = pipeline
        self._emitter = emitter
        self._dedup = dedup
        self._outputs = outputs
        self._containment = containment
        self._bus = bus

    def sums(self) -> dict[str, int]:
        """Every counter by its name in capture_stats, from the hook to the outputs."""
        kernel = self._tables.counters()
        sums = {"frames": frames(kernel)}
        sums |= kernel
        sums |= self._tables.evictions(kernel)
        sums |= self._samples()
        sums |= self._fragments.counts()
        sums |= self._tls()
        sums |= self._heads()
        sums |= dict(sorted(self._pipeline.counts.items()))
        sums |= dict(sorted(self._containment.counts.items()))
        sums |= self._events()
        sums |= {f"output_{name}": count for name, count in self._outputs.sums().items()}
        if self._bus is not None:
            sums |= self._bus.sums()
        return sums

    def losses(self, kernel: Mapping[str, int]) -> Mapping[str, int]:
        """Losses since the start, by cause; `kernel` is struct counters by name."""
        lost = {name: kernel[name] for name in _KERNEL_LOSSES}
        lost["rings_corrupt"] = self._rings.corrupt
        lost |= {f"sample_{cause}": count for cause, count in self._intake.rejected.items()}
        lost |= self._fragments.losses()
        lost |= self._containment.counts
        for name in ("handshakes_lost", "ssh_heads_evicted"):
            lost[name] = self._pipeline.counts[name]
        lost["tls_evicted"] = self._pipeline.connections.counters.evicted
        lost["heads_evicted"] = self._pipeline.heads.counters.evicted
        lost["dedup_summaries_lost"] = self._dedup.counters.summaries_lost
        lost |= {f"output_{cause}": count for cause, count in self._outputs.losses().items()}
        if self._bus is not None:
            lost |= self._bus.losses()
        return lost

    def _samples(self) -> dict[str, int]:
        received, rejected = self._intake.received, self._intake.rejected
        return {
            "rings_lost": sum(self._rings.lost.values()),
            "rings_corrupt": self._rings.corrupt,
            "samples_received": received,
            "samples_decoded": received - rejected.total(),
            **{f"samples_rejected_{cause}": count for cause, count in sorted(rejected.items())},
            "samples_late": self._ordering.late,
        }

    def _tls(self) -> dict[str, int]:
        counters = self._pipeline.connections.counters
        return {
            "tls_connections": counters.opened,
            "tls_evicted": counters.evicted,
            "tls_segments_after_done": counters.after_done,
            "tls_misplaced": counters.misplaced,
            "tls_malformed": counters.malformed,
            "tls_bytes_dropped": counters.bytes_dropped,
        }

    def _heads(self) -> dict[str, int]:
        counters = self._pipeline.heads.counters
        return {"heads_opened": counters.opened, "heads_evicted": counters.evicted}

    def _events(self) -> dict[str, int]:
        dedup = self._dedup.counters
        return {
            "events_made": self._emitter.made,
            **{f"events_{fate.value}": self._emitter.counts[fate] for fate in Fate},
            "dedup_evicted": dedup.evicted,
            "dedup_summaries_lost": dedup.summaries_lost,
            "dedup_hosts_ignored": dedup.hosts_ignored,
        }
