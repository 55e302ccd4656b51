"""scan_summary of replayed frames: through the real programs, on the clock of the capture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from deckwire.captures import Frame
from deckwire.config import Settings
from deckwire.events.event import Event
from tests.support import bpf_frames as wire
from tests.support.conversation import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    SECOND,
    START_NS,
    Conversation,
)
from tests.support.declared import check_declared
from tests.support.emitted import of
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

SETTINGS = Settings(dedup_ttl=0.0)
MINUTES = 60
"""The tracker's own test has a day."""


@pytest.fixture
def lab(lab: ReplayLab) -> Iterator[ReplayLab]:
    lab.scans = True
    yield lab
    lab.scans = False


def summaries(
    lab: ReplayLab, frames: Iterable[Frame], settings: Settings = SETTINGS
) -> list[dict[str, Any]]:
    events: list[Event] = lab.frames(frames, [DECKY, DECKY_B, DECKY6], settings)
    check_declared([event for event in events if event.name == "scan_summary"])
    return of(events, "scan_summary")


def probe(
    at_s: float, port: int, *, flags: str = "S", ack: int = 0, to: str = DECKY, reply: str = ""
) -> list[Frame]:
    """A segment to a port, and the decky's reply with these flags a millisecond later."""
    source = CLIENT6 if ":" in to else CLIENT
    ip = wire.ipv6 if ":" in to else wire.ipv4
    frames = [ip(wire.tcp(dport=port, flags=flags, window=1_024, ack=ack), source, to)]
    if reply:
        segment = wire.tcp(sport=port, dport=40_000, flags=reply, seq=0, ack=1_001)
        frames.append(ip(segment, to, source))
    start_ns = START_NS + round(at_s * SECOND)
    whole = [wire.ethernet(frame) for frame in frames]
    return [Frame(start_ns + n * 1_000_000, 1, data, len(data)) for n, data in enumerate(whole)]


def scan(ports: Sequence[int], step_s: float, **more: Any) -> list[Frame]:
    return [frame for n, port in enumerate(ports) for frame in probe(n * step_s, port, **more)]


@pytest.mark.parametrize("to", [DECKY, DECKY6])
@pytest.mark.parametrize(("step_s", "rate"), [(0.0005, 1_900), (0.02, 50), (1.0, 1.0)])
def test_a_scan_at_any_pace_is_one_scan(
    lab: ReplayLab, to: str, step_s: float, rate: float
) -> None:
    frames = scan(range(1, 31), step_s, to=to, reply="RA" if step_s > 0.01 else "")
    found = summaries(lab, frames)
    assert found[-1]["phase"] == "ended"
    assert len({one["scan_id"] for one in found}) == 1
    assert {one["phase"] for one in found} <= {"begun", "grown", "ended"}
    last = found[-1]
    assert (last["kinds"], last["ports"], last["probes"]) == (("syn",), "1-30", 30)
    assert (last["targets"], last["ports_exact"], last["spread"]) == (30, True, "vertical")
    assert last["order"] == "sequential"
    assert (last["closed"], last["silent"]) == ((30, 0) if step_s > 0.01 else (0, 30))
    assert last["rate"] == pytest.approx(rate, rel=0.1)
    assert last["src_ip"] == (CLIENT6 if ":" in to else CLIENT)
    assert last["first_seen"] == "2026-09-21T14:13:20.000000+00:00"


def test_a_probe_a_minute_is_one_scan(lab: ReplayLab) -> None:
    found = summaries(lab, scan(range(1, MINUTES + 1), 60.0))
    assert [one["phase"] for one in found] == ["begun", "grown", "ended"]
    assert len({one["scan_id"] for one in found}) == 1
    assert (found[-1]["ports"], found[-1]["probes"]) == (f"1-{MINUTES}", MINUTES)
    # The first one came while the scan went on.
    assert found[0]["time_ns"] < START_NS + 360 * SECOND


def test_two_scans_of_one_source_with_a_silence_between_them(lab: ReplayLab) -> None:
    first = scan(range(1, 7), 0.1)
    second = [frame for n in range(6) for frame in probe(5_000 + n / 10, 101 + n, flags="F")]
    found = summaries(lab, first + second)
    assert [one["phase"] for one in found] == ["begun", "ended"] * 2
    assert found[0]["scan_id"] != found[2]["scan_id"]
    assert [(one["ports"], one["kinds"]) for one in found[1::2]] == [
        ("1-6", ("syn",)),
        ("101-106", ("fin",)),
    ]


def test_a_single_probe_has_its_author(lab: ReplayLab) -> None:
    (found,) = summaries(lab, probe(0, 22, reply="SA"))
    assert (found["phase"], found["targets"], found["order"]) == ("ended", 1, "single")
    assert (found["open"], found["open_ports"], found["spoofable"]) == (1, "22", True)
    assert "rate" not in found
    assert "spread" not in found


@pytest.mark.parametrize(
    ("flags", "kind"), [("F", "fin"), ("", "null"), ("FPU", "xmas"), ("FA", "maimon"), ("A", "ack")]
)
def test_kinds_of_segments(lab: ReplayLab, flags: str, kind: str) -> None:
    found = summaries(lab, scan(range(1, 7), 0.01, flags=flags, ack=1, reply="R"))
    assert found[-1]["kinds"] == (kind,)
    assert found[-1]["closed"] == 6


def test_a_connection_proves_its_source(lab: ReplayLab) -> None:
    (found,) = summaries(lab, Conversation().open().send(b"GET /").close().frames)
    assert (found["kinds"], found["spoofable"]) == (("syn", "connect"), False)
    assert found["open_ports"] == "443"


def test_a_peer_that_a_decky_talks_to_is_no_scanner(lab: ReplayLab) -> None:
    outbound = Conversation(DECKY, CLIENT).open().send(b"GET /").answer(b"200 OK").close()
    assert summaries(lab, outbound.frames) == []


def test_segments_of_a_connection_are_no_probes(lab: ReplayLab) -> None:
    talk = Conversation().open().send(b"GET /").answer(b"200 OK")
    for _ in range(20):
        talk.send(b"x").ack(1)
    (found,) = summaries(lab, talk.close().reset().frames)
    assert (found["probes"], found["targets"]) == (2, 1)


def test_a_sweep_of_deckies_is_horizontal(lab: ReplayLab) -> None:
    found = summaries(lab, probe(0, 22) + probe(1, 22, to=DECKY_B))
    assert (found[-1]["spread"], found[-1]["deckies"]) == ("horizontal", 2)
    assert found[-1]["names"] == ("d-0", "d-1")


def test_no_scans_if_none_are_wanted(lab: ReplayLab) -> None:
    frames = scan(range(1, 50), 0.1)
    assert summaries(lab, frames, Settings(dedup_ttl=0.0, scan_targets=0)) == []


def test_the_limit_of_targets_is_a_setting(lab: ReplayLab) -> None:
    found = summaries(lab, scan(range(1, 31), 1.5), Settings(dedup_ttl=0.0, scan_targets=3))
    assert [one["phase"] for one in found] == ["begun", "grown", "ended"]
    assert 3 <= found[0]["targets"] < 6
    assert found[1]["targets"] == found[2]["targets"] == 30
