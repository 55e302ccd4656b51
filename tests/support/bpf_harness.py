"""Runs the real programs frame by frame, and reads their counters, samples and tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from struct import unpack
from typing import Any

from deckwire.abi import structs as abi
from deckwire.abi.members import Flat
from deckwire.abi.samples import (
    AnomalySample,
    EndSample,
    FragmentSample,
    SackSample,
    Sample,
    SegmentSample,
    decode,
)
from deckwire.abi.sources import Source
from deckwire.deckies import Decky, parse_address
from deckwire.kernel.loading import Loaded
from deckwire.kernel.maps import Map
from deckwire.tables.half_open import HalfOpenTable
from deckwire.tables.sources import SourceTable
from deckwire.tables.tables import Tables
from deckwire.tcp.addresses import address_text
from tests.support.bpf_frames import DECKY, DECKY6, DECKY6_B, DECKY_B

MS = 1_000_000
SECOND = 1_000_000_000
START_NS = 1_000_000 * SECOND

SETTINGS = {
    "seed": 0x5EED,
    "syn_cost_ns": MS,
    "syn_burst_ns": 2 * SECOND,
    "handshake_cost_ns": 200_000,
    "handshake_burst_ns": 2 * SECOND,
    "midstream_cost_ns": MS,
    "midstream_burst_ns": 2 * SECOND,
    "flows_per_source": 65_536,
    "dedup": 1,
    "vepa": 0,
    "sequences": 0,
    "heads": 0,
    "own_host": 0,
    "checksums": 1,
}
SMALL_TABLES = {
    "MAX_HALF_OPEN": 4_096,
    "MAX_OTHER_HALF_OPEN": 256,
    "MAX_FLOWS": 1_024,
    "MAX_MIDSTREAM": 1_024,
    "SYN_SEEN_SLOTS": 1_024,
    "SERVICE_SEEN_SLOTS": 64,
    "HELLO_SEEN_SLOTS": 1_024,
    "ANOMALY_SEEN_SLOTS": 64,
    "SOURCE_SLOTS": 64,
    "FRAGMENT_SLOTS": 64,
    "PROBE_SOURCE_SETS": 16,
    "PROBE_TARGET_SETS": 256,
    "ASKED_SLOTS": 64,
}
"""Small enough to be cleared for every test."""
TINY_TABLES = {
    **SMALL_TABLES,
    "MAX_HALF_OPEN": 1_024,
    "MAX_FLOWS": 4,
    "MAX_MIDSTREAM": 256,
    "TLS_PASSES": 2,
}
"""Small enough to be filled."""

ZERO = bytes(4)
SAMPLE_HEAD = Flat("SampleHead", abi.SCHEMAS["sample_head"])
HALF_OPEN, FLOW = (abi.SCHEMAS[name].compile() for name in ("half_open", "flow"))
CLEARED = (
    *("deckies4", "deckies6", "own_addresses", "own_macs", "vepa_parents"),
    *("other_half_open", "flows", "midstream_flows"),
)
ZEROED = (
    *("half_open", "half_open_sets"),
    *("syn_seen", "service_seen", "service_sums", "hello_seen", "anomaly_seen"),
    *("sources", "syn_budget", "midstream_budget", "anomaly_budget", "anomaly_sources"),
    *("fragment_sources", "fragment_budget"),
    *("source_sets", "probe_sources", "probe_targets", "probe_marks", "asked_by_deckies"),
    *("begun_by_deckies", "rings"),
)


@dataclass(frozen=True, slots=True)
class Wait:
    """Time that passes before the next frame, instead of a millisecond."""

    ns: int


class Kernel:
    """Loaded programs with a clock of their own: each frame comes a millisecond after the last.

    Every verdict and every sample is checked here. `check()` checks the counters.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.now_ns = START_NS
        self.run = 0
        """Frames run since the reset."""
        self.received = 0
        """Samples read since the reset."""
        self._frames: dict[int, list[bytes]] = {}
        self._older_frames: dict[int, list[bytes]] = {}
        self.half_open = HalfOpenTable(loaded.maps)

    def reset(self, **settings: int) -> None:
        """Empty tables, zero counters, two deckies of each family."""
        maps = self.loaded.maps
        for name in CLEARED:
            for key, _ in list(maps[name].items()):
                maps[name].delete(key)
        for name in ZEROED:
            zero(maps[name])
        maps["counters"].update(ZERO, bytes(maps["counters"].value_size))
        tables = Tables(maps)
        addresses = [parse_address(one) for one in (DECKY, DECKY_B, DECKY6, DECKY6_B)]
        tables.deckies.replace([Decky("decky", one).packed for one in addresses])
        self.settings(**settings)
        self.loaded.rings.drain()
        self.loaded.rings.read = dict.fromkeys(self.loaded.rings.cpus, 0)
        self.now_ns, self.run, self.received = START_NS, 0, 0
        self._frames.clear()
        self._older_frames.clear()

    def settings(self, **changes: int) -> None:
        self.loaded.maps["settings"].update(ZERO, abi.SETTINGS.build({**SETTINGS, **changes}))

    def feed(self, *steps: bytes | Wait, egress: bool = False, **context: int) -> None:
        """Runs frames, each a millisecond after the last, or after a Wait."""
        program = self.loaded.programs["tc_egress" if egress else "tc_ingress"]
        waited = None
        for step in steps:
            if isinstance(step, Wait):
                waited = step.ns
                continue
            self.now_ns += MS if waited is None else waited
            waited = None
            self._frames.setdefault(self.now_ns, []).append(step)
            verdict = program.test_run(step, tstamp=self.now_ns, **context).verdict
            assert verdict == -1, "TC_ACT_UNSPEC: the frame passes on to other programs"
            self.run += 1

    def samples(self) -> list[Sample]:
        """The decoded samples in the rings, each compared with its frame."""
        found = []
        for _, data in self.loaded.rings.drain():
            self.received += 1
            sample = decode(data)
            self._check_sample(sample, data)
            found.append(sample)
        return found

    def submitted(self) -> str:
        """The samples in words, for instance ``syn handshake segment:200 end:fin``."""
        return " ".join(map(word, self.samples()))

    def counters(self) -> dict[str, int]:
        """The counters that are not zero."""
        sums = dict.fromkeys(abi.COUNTERS, 0)
        for value in self.loaded.maps["counters"].lookup_cpus(ZERO):
            counts = abi.SCHEMAS["counters"].parse(value)
            for name in abi.COUNTERS:
                sums[name] += counts[name]
        return {name: count for name, count in sums.items() if count}

    def raised(self) -> dict[str, int]:
        """counters() without those of samples and probes, which check() checks."""
        checked = ("samples_", "probe")
        return {name: n for name, n in self.counters().items() if not name.startswith(checked)}

    def sources(self) -> dict[str, Source]:
        """The sources of probes as the agent reads them, by address."""
        table = SourceTable(self.loaded.maps, SETTINGS["seed"])
        self._mark_all()
        found: dict[str, Source] = {}
        # A call reads a part of a full table.
        while more := {address_text(one.address): one for one in table.changed()}:
            found |= more
        return found

    def table(self, name: str) -> list[Any]:
        """The values of half_open, flows or midstream_flows, as construct's containers."""
        if name == "half_open":
            return [HALF_OPEN.parse(value) for _, value in self.half_open.entries()]
        return [FLOW.parse(value) for _, value in self.loaded.maps[name].items()]

    def flow(self) -> Any:
        """The only entry of flows."""
        (flow,) = self.table("flows")
        return flow

    def client_side(self) -> Any:
        """The client's side of the only flow."""
        totals = self.flow().totals
        return totals.side[totals.client]

    def server_side(self) -> Any:
        """The server's side of the only flow."""
        totals = self.flow().totals
        return totals.side[1 - totals.client]

    def sent_by(self, *, client: bool) -> int:
        """One past the highest sequence number that an end of the only flow has sent."""
        totals = self.flow().totals
        sent: int = totals.end[totals.client if client else 1 - totals.client].sent
        return sent

    def sizes(self) -> tuple[int, int, int]:
        """Entries in half_open, flows and midstream_flows."""
        flows, midstream = (len(self.table(n)) for n in ("flows", "midstream_flows"))
        return self.half_open.size(), flows, midstream

    def check(self) -> None:
        """Conservation: each frame raised one counter, each sample is in a ring or counted lost."""
        self.samples()
        counters = self.counters()
        assert_conserved(counters, self.run, self.received)
        assert counters.get("samples_bytes", 0) == sum(self.loaded.rings.read.values())
        if not counters.get("probe_sources_evicted"):
            recorded = sum(sum(one.probes.values()) for one in self.sources().values())
            unrecorded = counters.get("probes_unrecorded", 0)
            assert counters.get("probes", 0) == recorded + unrecorded

    def _mark_all(self) -> None:
        marks = self.loaded.maps["probe_marks"]
        for number in range(marks.max_entries):
            marks.update(abi.SLOT.pack(number), (1).to_bytes(8, "little"))

    def drop_frames(self) -> None:
        """Drop the frames kept for comparison with samples, but for those since the last call.

        A SYN that comes after its SYN-ACK has the time of that one.
        """
        self._older_frames, self._frames = self._frames, {}

    def _check_sample(self, sample: Sample, data: bytes) -> None:
        head = SAMPLE_HEAD.parse(data)
        frames = [
            *self._older_frames.get(head.time_ns, []),
            *self._frames.get(head.time_ns, []),
        ]
        assert frames
        assert head.sender in (0, 1)
        assert head.client in (0, 1, abi.CLIENT_UNKNOWN)
        if isinstance(sample, FragmentSample):
            assert any(frame[: len(sample.frame)] == sample.frame for frame in frames)
        if isinstance(sample, SegmentSample):
            end = head.payload_off + head.copied
            copied = data[abi.SAMPLE_HEAD_BYTES : abi.SAMPLE_HEAD_BYTES + end]
            assert len(sample.payload) == head.copied <= head.payload_len
            # An urgent pointer alone is sampled too.
            assert head.copied or sample.urgent_seq is not None
            assert any(frame[:end] == copied for frame in frames)
            if sample.start_seq is not None and not sample.head:
                # The first byte of a header may have come with an earlier segment.
                offset = (sample.start_seq - sample.seq + 5) % 2**32
                assert offset < head.copied + 5


def zero(table: Map) -> None:
    """Sets all values of an array to zero; faster if it is mapped into memory."""
    empty = bytes(table.value_size)
    try:
        values = table.mapped(0, table.max_entries)
    except ValueError:
        changed = [key for key, value in table.items() if value != empty]
    else:
        step = len(values) // table.max_entries
        starts = range(0, len(values), step) if values.count(0) < len(values) else ()
        changed = [
            abi.SLOT.pack(at // step)
            for at in starts
            if values[at : at + table.value_size] != empty
        ]
    for key in changed:
        table.update(key, empty)


def assert_conserved(counters: Mapping[str, int], frames: int, received: int | None) -> None:
    """`received` is None if the rings were not read to their end."""
    get = counters.get
    counted = sum(get(name, 0) for name in abi.FRAME_COUNTERS)
    assert counted - get("packets_reassembled", 0) == frames
    wanted, submitted = get("samples_wanted", 0), get("samples_submitted", 0)
    assert wanted == submitted + get("samples_lost", 0)
    assert received is None or submitted == received
    anomalies = get("anomalies", 0)
    unsampled = sum(get(f"anomalies_{why}", 0) for why in ("suppressed", "over_budget"))
    assert unsampled <= anomalies <= unsampled + wanted
    syn_outcomes = ("syn_retransmits", "syn_suppressed", "syn_over_budget")
    syn_samples = get("frames_syn", 0) - sum(get(name, 0) for name in syn_outcomes)
    assert 0 <= syn_samples <= wanted
    assert get("flow_inserts", 0) + get("flow_reopened", 0) == get("handshakes", 0)


def word(sample: Sample) -> str:
    """The name of one sample."""
    match sample:
        case SegmentSample(payload=payload):
            detail = f":{len(payload)}"
        case SackSample(blocks=blocks):
            detail = f":{len(blocks)}"
        case EndSample(record=record):
            detail = f":{record.close}"
        case FragmentSample(frame=frame):
            detail = f":{len(frame)}"
        case AnomalySample(anomaly=anomaly):
            detail = f":{anomaly.technique}"
        case _:
            detail = ""
    return type(sample).__name__.removesuffix("Sample").lower() + detail


def segments(samples: Iterable[Sample]) -> list[SegmentSample]:
    return [sample for sample in samples if isinstance(sample, SegmentSample)]


def pin() -> set[int]:
    """Keeps this process on one CPU, so that samples arrive in the order of the frames.

    Returns the CPUs that it could use before.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    return before


def ports(key: bytes) -> tuple[int, int]:
    """The ports in a struct flow_key, by end."""
    low, high = unpack("!HH", key[32:36])
    return low, high
