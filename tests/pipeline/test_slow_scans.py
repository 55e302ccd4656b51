"""A slow scan is one scan: nmap's own packets, with the times that a slow scan gives them.

The test captures a real scan. It then moves the probes apart, each with what belongs to it, so that
a scan of a day takes seconds on the clock of the capture.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from deckwire.captures import CaptureFile, Frame
from deckwire.config import Settings
from deckwire.deckies import Decky, parse_address
from deckwire.lab import Lab
from deckwire.lab.network import CLIENT_INTERFACE
from deckwire.lab.servers import http_server
from tests.support.conversation import SECOND
from tests.support.emitted import of
from tests.support.live_wire import ACK, SYN, Segment, Tap, parse_frame
from tests.support.replaying import ReplayLab

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        None in map(shutil.which, ("nmap", "tcpdump")), reason="not installed: nmap or tcpdump"
    ),
]

PORTS = 1_440
"""One a minute for a day. Port 80 is open."""
NAME = "web-01"


class Captured:
    """The frames of a scan of one decky, by the port that they are about."""

    def __init__(self) -> None:
        with Lab() as lab:
            web = lab.deckies[0]
            http_server(lab, web)
            with Tap(lab) as tap:
                scan = ["nmap", "-n", "-Pn", "-sS", "-T4", "-e", CLIENT_INTERFACE]
                done = lab.run(lab.client, [*scan, "-p", f"1-{PORTS}", web.v4])
                assert done.returncode == 0, done.stderr
            self.decky = Decky(NAME, parse_address(web.v4))
            self.source = lab.client.v4
            with CaptureFile(tap.path) as capture:
                self._probes = list(self._by_probe(capture))

    def _by_probe(self, capture: CaptureFile) -> Iterator[list[Frame]]:
        """A SYN and what follows it, in the order of the SYNs."""
        probes: dict[frozenset[int], list[Frame]] = {}
        for frame in capture:
            segment = parse_frame(frame.data)
            # The last frame is the tap's own.
            if segment is None:
                continue
            ends = frozenset((segment.sport, segment.dport))
            # A busy machine may make nmap repeat a probe, with another port of its own.
            if segment.flags & (SYN | ACK) == SYN or ends in probes:
                probes.setdefault(ends, []).append(frame)
        yield from probes.values()

    def apart(self, count: int, step_ns: int) -> Iterator[Frame]:
        """The frames of the first probes, with so much time between two of them."""
        begin_ns = self._probes[0][0].time_ns
        for number, frames in enumerate(self._probes[:count]):
            for frame in frames:
                after_ns = frame.time_ns - frames[0].time_ns
                yield replace(frame, time_ns=begin_ns + number * step_ns + after_ns)


@pytest.fixture(scope="module")
def captured() -> Captured:
    return Captured()


@pytest.mark.parametrize(
    ("count", "step_s"),
    [(200, 1), (PORTS, 60)],
    ids=["--scan-delay 1s", "a probe a minute for a day"],
)
def test_a_slow_scan_is_one_scan(
    lab: ReplayLab, captured: Captured, count: int, step_s: int
) -> None:
    lab.scans = True
    frames = list(captured.apart(count, step_s * SECOND))
    events = lab.frames(frames, [captured.decky], Settings())
    found = of(events, "scan_summary")
    assert len({one["scan_id"] for one in found}) == 1
    assert {one["src_ip"] for one in found} == {captured.source}
    assert [one["phase"] for one in found] == ["begun", *["grown"] * (len(found) - 2), "ended"]
    ended = found[-1]
    ports = {segment.dport for segment in syns(frames)}
    assert (ended["kinds"], ended["tool"], ended["order"]) == (("syn",), "nmap", "random")
    assert (ended["targets"], ended["ports_exact"]) == (len(ports), True)
    assert (ended["open"], ended["closed"]) == (80 in ports, len(ports - {80}))
    assert ended["probes"] == len(list(syns(frames)))
    if count == PORTS:
        assert (ended["ports"], ended["open_ports"]) == (f"1-{PORTS}", "80")
    # The first event came while the scan went on: after its fifth probe, at the next look.
    lasted_ns = found[-1]["time_ns"] - found[0]["time_ns"]
    assert lasted_ns > (count - 10) * step_s * SECOND


def syns(frames: Iterable[Frame]) -> Iterator[Segment]:
    """The SYNs of the scanner."""
    for frame in frames:
        segment = parse_frame(frame.data)
        if segment is not None and segment.flags & (SYN | ACK) == SYN:
            yield segment
