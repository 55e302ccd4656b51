"""Every counter of an assembled agent is in capture_stats, and every loss in capture_loss."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import decode
from deckwire.captures import Frame
from deckwire.clock import CaptureClock, KernelClock
from deckwire.config import Settings
from deckwire.deckies import Registry, parse_option
from deckwire.events.capture import stats_events
from deckwire.events.event import STAMP
from deckwire.kernel.signals import Requests
from deckwire.limits import LINE_BYTES, STREAM_BYTES
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import Fanout, to_all
from deckwire.output.sinks.spec import parse_output
from deckwire.resilience.containment import Containment, Where
from deckwire.runtime.agent import Agent
from deckwire.runtime.assembly import Parts, assemble
from deckwire.runtime.bus import BusService
from deckwire.runtime.feed import Replay
from deckwire.runtime.replay import sums_of
from tests.fuzz.material import segment_record
from tests.support.conversation import DECKY, Conversation
from tests.support.counting import INCREMENTS, KEYS, Found, find_added_to, find_counters
from tests.support.flights import handshake
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.interpreted

FLIGHT = handshake(ssl.TLSVersion.TLSv1_2)
DOCS = Path(__file__).parents[2] / "docs" / "events.md"
MANY = 1 << 40
"""More than anything here counts by itself."""

NO_COUNTERS = {
    "captures.source.Source.position": "a position in a file",
    "connections.connect_scans.ConnectScans._touches": "how many wait now",
    "clock.CaptureClock._earliest_ns": "a time",
    "connections.connection.Connection._hellos_held": "how much is held now",
    "connections.direction.Direction.held": "how much is held now",
    "connections.heads.Heads._held": "how much is held now",
    "connections.direction.Direction._unproven": "segments since the last SACK",
    "connections.open_connections.Connections._held": "how much is held now",
    "connections.open_connections.Connections._midstream_held": "how much is held now",
    "events.dedup.Dedup._held": "how much is held now",
    "tables.begun.BegunTable.unread": "the next look adds it to datagrams_begun_unread",
    "events.dedup.Dedup._hosts_left": "how much room there is now",
    "events.dedup._Window.count": "what a dedup_summary reports",
    "http.body.Body": "of one body",
    "http.reader._Reader": "of one direction",
    "ip.reassembly.Reassembler.held": "how much is held now",
    "ip.reassembly._Datagram": "of one datagram",
    "kernel.link_watch.LinkWatch._sequence": "a sequence number",
    "kernel.rings.Rings.read": "a position in the rings; the kernel has it as samples_bytes",
    "kernel.macvlan_addresses.MacvlanAddresses": "of a single search of another command",
    "kernel.macvlans.Search": "of a single search before the capture",
    "output.rate.EventRate._tokens": "how much room there is now",
    "output.spool.spool.Spool._last": "a number of a line",
    "output.spool.spool.Spool._lines": "how many wait now",
    "output.spool.courier.Courier._unanswered": "how many wait now",
    "output.spool.relp._Session._input": "what is not read yet",
    "output.sinks.stream_socket.StreamSocket._whole": "a position in a stream",
    "output.sinks.stream_writer.StreamWriter.taken": "a position in a stream",
    "output.sinks.pipe_writer.PipeWriter._whole": "a position in a stream",
    "output.sinks.unconfirmed.UnconfirmedLines": "a position in a stream",
    "output.sinks.fanout.Fanout._room": "how much room there is now",
    "output.sinks.twin.TwinSink._whole": "which file is next",
    "output.sinks.udp.UdpSink._turn": "which address is used",
    "resilience.bounded.Bounded.evicted": "caches fill again; connect scans count theirs by cause",
    "resilience.sized_cache.SizedCache._held": "how much is held now",
    "runtime.feed.Replay._number": "a position in a capture",
    "runtime.feed.Replay._undrained": "frames since the last drain",
    "runtime.losses.LossReport._emitted": "what capture_loss has reported of other counters",
    "runtime.replay.PatientFanout._unchecked": "lines since the last look",
    "tables.suppression.Suppression._count": "how many windows are open now",
    "tables.suppression.Suppression._noted": "how many ends are noted now",
    "tables.flows.FlowTables.midstream_deleted": "a part of midstream_evicted",
    "scans.scan.Scan": "of one scan: what scan_summary reports",
    "scans.targets.Targets": "of one scan: what scan_summary reports",
    "scans.tracker.Tracker._kept_targets": "how much is held now",
    "scans.tracker.Tracker._promised": "for how many a look has room yet",
    "tcp.reassembly.Stream._base": "a position in a stream",
    "tcp.out_of_order.OutOfOrderQueue.waiting": "how much is held now",
    "ssh.reader.Reader": "a position in a stream",
    "tls.tds.TdsPackets": "a position in a packet",
    "tls.records.RecordReader": "positions in a stream and facts about it",
}
"""Attributes that look like counters and are none: beginnings of names, with reasons."""


class Capture(NamedTuple):
    """An agent whose kernel side is loaded, and the same parts under a replay."""

    parts: Parts
    replay: Replay
    agent: Agent

    def counters(self) -> dict[str, Found]:
        return {found.name: found for found in find_counters(self.agent, self.replay)}

    def sums(self) -> dict[str, int]:
        return sums_of(self.replay, self.parts)

    def losses(self) -> dict[str, int]:
        return dict(self.parts.stats.losses(self.parts.tables.counters()))


Start = Callable[[], Capture]


@pytest.fixture
def start(lab: ReplayLab, tmp_path: Path) -> Start:
    """Starts a capture with an output of each kind and the bus, and no thread."""

    def made() -> Capture:
        specs = ("stdout", f"file:{tmp_path}/log", "unix:/absent", "udp:[::1]:9", "tcp:[::1]:9")
        sinks = [parse_output(spec)() for spec in specs]
        return assembled(lab, Fanout(to_all(JsonFormat(), sinks)))

    return made


def assembled(lab: ReplayLab, outputs: Fanout) -> Capture:
    lab.clear()
    settings, clock = Settings(dedup_ttl=300.0), CaptureClock()
    registry = Registry([parse_option(DECKY)])
    containment = Containment(pytest.fail)
    bus = BusService("/absent")
    parts = assemble(settings, lab.loaded, registry, clock, outputs, lab.identify, containment, bus)
    replay = Replay(lab.loaded, parts.pipeline, parts.intake, parts.fragments, clock, containment)
    # It does not run, so nobody asks for signals.
    requests = cast(Requests, None)
    agent = Agent(settings, lab.loaded, parts, KernelClock(), None, requests, bus)
    return Capture(parts, replay, agent)


def half_a_hello() -> list[Frame]:
    """A connection whose hello is being read."""
    return Conversation().open().send(FLIGHT.client[:100]).frames


@contextmanager
def raised(counter: Found, count: int) -> Iterator[None]:
    """Raise a counter for a while, because some objects outlive a capture, such as the rings."""
    counter.raise_by(count)
    try:
        yield
    finally:
        counter.raise_by(-count)


def is_no_counter(name: str) -> bool:
    return any(name.startswith(beginning) for beginning in NO_COUNTERS)


# --- nothing is left out ---


@pytest.mark.root
def test_every_counter_reaches_capture_stats(start: Start) -> None:
    """Each counter is raised by itself; then its connection, if it has one, ends."""
    capture = start()
    capture.replay.run_frames(half_a_hello())
    names = [name for name in capture.counters() if not is_no_counter(name)]
    assert len(names) > 20
    missing = []
    for name in names:
        capture = start()
        capture.replay.run_frames(half_a_hello())
        before = capture.sums()
        with raised(capture.counters()[name], MANY):
            capture.parts.pipeline.finish()
            after = capture.sums()
        if all(count - before.get(one, 0) < MANY for one, count in after.items()):
            missing.append(name)
    assert missing == [], "count them in runtime/counters.py, or say in NO_COUNTERS what they are"


@pytest.mark.root
def test_every_attribute_that_the_source_adds_to_is_found(start: Start) -> None:
    """An attribute that the walk cannot reach would escape the test before this one."""
    capture = start()
    capture.replay.run_frames(half_a_hello())
    found = {one.name for one in find_added_to(capture.agent, capture.replay)}
    attributes = {name.rpartition(".")[2] for name in found}
    unseen = [
        f"{owner}.{attribute}"
        for owner, attribute in INCREMENTS
        if not is_no_counter(f"{owner}.{attribute}")
        and (f"{owner}.{attribute}" not in found if owner else attribute not in attributes)
    ]
    assert sorted(unseen) == [], "make them reachable, or say in NO_COUNTERS what they are"


@pytest.mark.root
def test_every_exemption_is_needed(start: Start) -> None:
    capture = start()
    capture.replay.run_frames(half_a_hello())
    names = {*capture.counters(), *(f"{owner}.{attribute}" for owner, attribute in INCREMENTS)}
    idle = [
        beginning
        for beginning in NO_COUNTERS
        if not any(name.startswith(beginning) for name in names)
    ]
    assert idle == []


@pytest.mark.root
def test_the_documentation_explains_every_counter_of_the_agent(start: Start) -> None:
    capture = start()
    capture.replay.run_frames(half_a_hello())
    capture.parts.pipeline.finish()
    explained = set(re.findall(r"[A-Za-z0-9_]+", DOCS.read_text()))
    ours = {*capture.sums(), *KEYS, *Where} - {*abi.COUNTERS, "frames"}
    ours = {
        re.sub("^output_(stdout|file|unix|udp|tcp|bus)_", "output_KIND_", name) for name in ours
    }
    # The reassembler's counters get their prefix in runtime/counters.py.
    explained |= {name.removeprefix("fragments_") for name in explained}
    assert sorted(ours - explained) == []


@pytest.mark.root
def test_lines_have_room_for_every_counter(start: Start) -> None:
    """Each counter has counted a million a second for two years, in the longer format.

    And one line has room for all of them while they are small.
    """
    sums = start().sums()
    causes = ("queue_full", "connect_error", "write_error", "too_large", "unsent", "in_doubt")
    for kind in ("stdout", "file", "unix", "udp", "tcp", "bus"):
        sums |= {f"output_{kind}_{cause}": 0 for cause in causes}
        sums |= {f"output_{kind}_failed_{call}": 0 for call in ("connect", "write", "reopen")}
    sums |= dict.fromkeys([*KEYS, *Where], 0)
    assert len(list(stats_events("h" * 64, 0, dict.fromkeys(sums, 2**10)))) == 1
    found: set[str] = set()
    for event in stats_events("h" * 64, 0, dict.fromkeys(sums, 2**46)):
        line = JsonFormat().line(event._replace(sensor="s" * 64, event_id="0f" * 16))
        assert len(line) < LINE_BYTES
        found |= json.loads(line)["fields"].keys()
    assert found == {*sums, "part", "parts", *STAMP}


# --- what means loss ---


@pytest.mark.root
@pytest.mark.parametrize(
    ("counter", "cause"),
    [
        ("kernel.rings.Rings.corrupt", "rings_corrupt"),
        ("connections.open_connections.Counters.evicted", "tls_evicted"),
        ("events.dedup.Counters.summaries_lost", "dedup_summaries_lost"),
        ("runtime.counters.Intake.rejected", "sample_found_by_walking"),
        ("resilience.containment.Containment.counts", "found_by_walking"),
        ("output.sinks.sink.Sink._dropped", "output_"),
    ],
)
def test_a_loss_becomes_a_cause_of_capture_loss(start: Start, counter: str, cause: str) -> None:
    capture = start()
    before = capture.losses()
    with raised(capture.counters()[counter], 7):
        lost = [
            count - before.get(name, 0)
            for name, count in capture.losses().items()
            if name.startswith(cause)
        ]
    assert sum(lost) == 7


@pytest.mark.root
@pytest.mark.parametrize("name", ["handshakes_lost", "ssh_heads_evicted"])
def test_what_the_agent_cannot_emit_is_a_loss(start: Start, name: str) -> None:
    capture = start()
    assert name not in capture.sums()
    capture.parts.pipeline.counts[name] += 7
    assert capture.losses()[name] == 7


@pytest.mark.root
def test_bytes_too_far_ahead_of_a_hello_are_counted(start: Start) -> None:
    capture = start()
    far = 1_000 + STREAM_BYTES
    for record in (
        segment_record(FLIGHT.client[:100], sender=0, seq=1_000, time_ns=1, start_seq=1_000),
        segment_record(b"x" * 500, sender=0, seq=far, time_ns=2, start_seq=1_000),
    ):
        capture.parts.pipeline.take(decode(record))
    capture.parts.pipeline.finish()
    # 100 bytes were read, so there is room for as many after the first STREAM_BYTES.
    assert capture.sums()["tls_bytes_dropped"] == 500 - 100


@pytest.mark.root
def test_samples_that_come_too_late_are_counted(start: Start) -> None:
    capture = start()
    ordering = capture.parts.ordering
    for pass_ns in (10**9, 2 * 10**9, 3 * 10**9):
        ordering.release(pass_ns)
    ordering.add([(1, cast(Any, None))])
    assert capture.sums()["samples_late"] == 1
