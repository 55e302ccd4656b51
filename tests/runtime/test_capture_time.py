"""Captures with wrong time stamps through the real programs: which times their events have."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deckwire.captures import Frame
from deckwire.events.event import Event
from deckwire.limits import CAPTURE_AHEAD_NS, CAPTURE_SILENCE_NS
from tests.support import bpf_frames as wire
from tests.support.conversation import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    MS,
    SECOND,
    START_NS,
    STRANGER,
    Conversation,
    in_time,
    pcap,
)
from tests.support.emitted import names as emitted_names
from tests.support.emitted import of, one
from tests.support.flights import handshake
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

FLIGHT = handshake(ssl.TLSVersion.TLSv1_2)
HOUR, YEAR = 3_600 * SECOND, 365 * 86_400 * SECOND
STRANGER6 = wire.STRANGER6
ENDS = [(CLIENT, DECKY), (CLIENT6, DECKY6), (DECKY, CLIENT), (DECKY6, CLIENT6)]
TIMES = {"duration_s", "mean_iat_ms", "min_iat_ms", "max_iat_ms"}
RTTS = {"rtt_client_us", "rtt_server_us", "ja4l_c", "ja4l_s"}
EVERY = ["tcp_syn_fingerprint", "tcp_handshake", "tls_client_hello"]
EVERY += ["tls_session", "tls_certificate", "tcp_flow_timing"]


def talk(ends: tuple[str, str] = (CLIENT, DECKY), **how: int) -> Conversation:
    conversation = Conversation(*ends, **how)
    return conversation.open().send(FLIGHT.client).answer(FLIGHT.server).close()


def names(events: Iterable[Event]) -> list[str]:
    """Without the event that connections of deckies have in addition."""
    return [name for name in emitted_names(events) if name != "decky_initiated"]


def foreign(stamp_ns: int, ends: tuple[str, str] = (STRANGER, CLIENT)) -> Frame:
    return Conversation(*ends, start_ns=stamp_ns).syn().frames[0]


def moved(frames: Sequence[Frame], which: Callable[[int], bool], by_ns: int) -> list[Frame]:
    """The same frames in the same order, some with other time stamps."""
    return [
        replace(frame, time_ns=max(frame.time_ns + by_ns, 0)) if which(number) else frame
        for number, frame in enumerate(frames)
    ]


def counts(lab: ReplayLab) -> dict[str, int]:
    assert lab.replay is not None
    return {name: n for name, n in lab.replay.counts.items() if name.startswith("time_")}


@pytest.mark.parametrize("stamps", [[START_NS + 50 * YEAR], [0], [2**63 - 1, 0, START_NS + HOUR]])
@pytest.mark.parametrize("at", [0, 1, 2, 5])
@pytest.mark.parametrize("ends", ENDS)
def test_foreign_frames_change_nothing(
    lab: ReplayLab, ends: tuple[str, str], at: int, stamps: list[int]
) -> None:
    deckies = [end for end in ends if end in (DECKY, DECKY6)]
    others = [
        foreign(stamp, pair)
        for stamp in stamps
        for pair in ((STRANGER, CLIENT), (STRANGER6, CLIENT6))
    ]
    second = talk(ends, client_port=40_001, start_ns=START_NS + 3 * SECOND)
    frames = talk(ends).frames + second.frames
    plain = lab.frames(frames, deckies)
    assert names(plain) == EVERY * 2
    assert lab.frames(frames[:at] + others + frames[at:], deckies) == plain
    assert counts(lab) == {}


def test_idle_connections_end_although_a_foreign_frame_is_in_the_future(lab: ReplayLab) -> None:
    quiet = Conversation().open().send(b"hello")
    busy = Conversation(client_port=41_000, start_ns=START_NS + MS, step_ns=SECOND).open()
    for _ in range(130):
        busy.send(b"x")
    frames = in_time(quiet, busy)
    events = lab.frames([frames[0], foreign(START_NS + YEAR), *frames[1:]], [DECKY])
    closes = {flow["src_port"]: flow["close"] for flow in of(events, "tcp_flow_timing")}
    assert closes == {40_000: "idle", 41_000: "shutdown"}


@pytest.mark.parametrize("ends", ENDS)
def test_a_capture_without_stamps_gives_all_but_times(
    lab: ReplayLab, ends: tuple[str, str]
) -> None:
    frames = [replace(frame, time_ns=0) for frame in talk(ends).frames]
    events = lab.frames(frames, [end for end in ends if end in (DECKY, DECKY6)])
    assert names(events) == EVERY
    assert {event.time_ns for event in events} == {0}
    fields = {name for event in events for name, _ in event.fields}
    assert not (TIMES | RTTS | {"ja4l_rtt_ms", "rtt_min_us"}) & fields


def test_many_connections_without_stamps_have_their_budgets(lab: ReplayLab) -> None:
    talks = [talk(client_port=40_000 + number) for number in range(50)]
    frames = [replace(frame, time_ns=0) for each in talks for frame in each.frames]
    assert len(of(lab.frames(frames, [DECKY]), "tls_client_hello")) == 50


@pytest.mark.parametrize("by_ns", [-1, -MS, -SECOND // 2])
@pytest.mark.parametrize("ends", ENDS)
def test_an_answer_stamped_before_its_question(
    lab: ReplayLab, ends: tuple[str, str], by_ns: int
) -> None:
    frames = talk(ends).frames
    frames[1] = replace(frames[1], time_ns=frames[0].time_ns + by_ns)
    events = lab.frames(frames, [end for end in ends if end in (DECKY, DECKY6)])
    assert names(events) == EVERY
    for name in ("tcp_handshake", "tls_client_hello", "tls_session", "tcp_flow_timing"):
        assert not {"rtt_server_us", "ja4l_s", "ja4l_rtt_ms"} & one(events, name).keys(), name
    assert "rtt_client_us" in one(events, "tcp_handshake")
    for event in events:
        for _, value in event.fields:
            assert not isinstance(value, (int, float)) or value >= 0
    assert counts(lab) == {}


@pytest.mark.parametrize("wrong_ns", [20 * SECOND, HOUR, YEAR, 50 * YEAR, -5 * SECOND, -50 * YEAR])
@pytest.mark.parametrize("number", range(7))
def test_one_frame_with_a_wrong_stamp(lab: ReplayLab, number: int, wrong_ns: int) -> None:
    """It ends nothing and starts nothing. Only figures measured by it are unknown."""
    if number == 0 and wrong_ns == -5 * SECOND:
        pytest.skip("five seconds of silence after the first frame look the same")
    frames = moved(talk().frames, lambda n: n == number, wrong_ns)
    events = lab.frames(frames, [DECKY])
    assert names(events) == EVERY
    flow = one(events, "tcp_flow_timing")
    assert (flow["packets"], flow["close"]) == (len(frames), "fin")
    assert not TIMES & flow.keys()
    shook = one(events, "tcp_handshake")
    known = {name for name in ("rtt_server_us", "rtt_client_us") if name in shook}
    assert known == (
        ({"rtt_server_us"} if number > 1 else set()) | ({"rtt_client_us"} if number > 2 else set())
        if number
        else {"rtt_client_us"}
    )
    assert one(events, "tcp_syn_fingerprint")["time_ns"] == frames[0].time_ns
    assert shook["time_ns"] == frames[2].time_ns
    assert one(events, "tls_client_hello")["time_ns"] == frames[3].time_ns
    assert sum(counts(lab).values()) == (1 if number == 0 else 2)


@pytest.mark.parametrize("wrong_ns", [HOUR, YEAR, -HOUR])
def test_a_wrong_stamp_ends_no_other_connection(lab: ReplayLab, wrong_ns: int) -> None:
    other = Conversation(client_port=41_000, step_ns=SECOND // 10).open()
    for _ in range(10):
        other.send(b"x").ack(1)
    wrong = talk(start_ns=START_NS + SECOND)
    frames = in_time(other.close(), wrong)
    hello = frames.index(wrong.frames[3])
    events = lab.frames(moved(frames, lambda n: n == hello, wrong_ns), [DECKY])
    flows = of(events, "tcp_flow_timing")
    assert [flow["close"] for flow in flows] == ["fin", "fin"]
    assert {flow["packets"] for flow in flows} == {len(other.frames), len(wrong.frames)}


@pytest.mark.parametrize("step_ns", [-HOUR, -10 * YEAR, 40 * YEAR])
def test_a_clock_that_was_set(lab: ReplayLab, step_ns: int) -> None:
    """All later frames are stamped by it. Times on one side of the step are measured."""
    across = talk()
    after = talk(client_port=40_001, start_ns=across.now_ns)
    frames = moved(across.frames + after.frames, lambda n: n >= 4, step_ns)
    events = lab.frames(frames, [DECKY])
    assert names(events) == EVERY * 2
    first, second = of(events, "tcp_flow_timing")
    assert not TIMES & first.keys()
    assert second.keys() >= TIMES | {"rtt_client_us", "rtt_server_us"}
    assert of(events, "tcp_handshake")[0].keys() >= RTTS
    assert second["time_ns"] == frames[-1].time_ns
    assert sum(counts(lab).values()) == 1


def test_connections_idle_after_the_clock_was_set_back(lab: ReplayLab) -> None:
    quiet = Conversation().open().send(b"hello")
    busy = Conversation(client_port=41_000, start_ns=START_NS + 5 * SECOND, step_ns=SECOND).open()
    for _ in range(130):
        busy.send(b"x")
    frames = moved(in_time(quiet, busy), lambda n: n >= 6, -24 * HOUR)
    flows = of(lab.frames(frames, [DECKY]), "tcp_flow_timing")
    assert {flow["src_port"]: flow["close"] for flow in flows} == {
        40_000: "idle",
        41_000: "shutdown",
    }


@pytest.mark.parametrize("silence_ns", [CAPTURE_AHEAD_NS + 1, 121 * SECOND, CAPTURE_SILENCE_NS])
@pytest.mark.parametrize("more", [0, 1, 5])
def test_silence_is_believed(lab: ReplayLab, silence_ns: int, more: int) -> None:
    """One frame or several follow the silence."""
    quiet = Conversation().open().send(b"hello")
    later = Conversation(client_port=41_000, start_ns=quiet.frames[-1].time_ns + silence_ns).syn()
    for _ in range(more):
        later.syn()
    events = lab.frames(in_time(quiet, later), [DECKY])
    flow = one(events, "tcp_flow_timing")
    assert flow["close"] == ("idle" if silence_ns > 120 * SECOND else "shutdown")
    assert flow.keys() >= TIMES
    assert of(events, "tcp_syn_fingerprint")[1]["time_ns"] == later.frames[0].time_ns
    assert counts(lab) == {}


def test_a_longer_silence_than_that_is_a_jump(lab: ReplayLab) -> None:
    quiet = Conversation().open().send(b"hello")
    after_ns = quiet.frames[-1].time_ns + CAPTURE_SILENCE_NS + 1
    events = lab.frames(in_time(quiet, Conversation(start_ns=after_ns).syn()), [DECKY])
    assert one(events, "tcp_flow_timing")["close"] == "shutdown"
    assert counts(lab) == {"time_jumps_forward": 1}


def test_captures_joined_in_the_wrong_order(lab: ReplayLab) -> None:
    talks = [
        talk(client_port=40_000 + n, start_ns=START_NS + at * HOUR)
        for n, at in enumerate((5, 9, 0))
    ]
    events = lab.frames([frame for each in talks for frame in each.frames], [DECKY])
    assert names(events) == EVERY * 3
    for flow, each in zip(of(events, "tcp_flow_timing"), talks, strict=True):
        assert flow.keys() >= TIMES
        assert flow["time_ns"] == each.frames[-1].time_ns
    assert counts(lab) == {"time_jumps_back": 1}


def test_two_clocks_in_one_capture(lab: ReplayLab) -> None:
    """Frames of two interfaces, stamped an hour apart: their events show which times are known."""
    first = talk().frames
    second = talk(client_port=40_001).frames
    frames = [
        frame
        for pair in zip(first, moved(second, lambda _: True, HOUR), strict=True)
        for frame in pair
    ]
    events = lab.frames(frames, [DECKY])
    assert sorted(names(events)) == sorted(EVERY * 2)
    for flow in of(events, "tcp_flow_timing"):
        assert flow["close"] == "fin"
        assert not TIMES & flow.keys()
    assert {syn["time_ns"] for syn in of(events, "tcp_syn_fingerprint")} == {
        START_NS,
        START_NS + HOUR,
    }


def test_frames_out_of_order_by_little_are_in_order(lab: ReplayLab) -> None:
    frames = talk().frames
    frames[4:6] = reversed(frames[4:6])
    frames[0] = replace(frames[0], time_ns=frames[0].time_ns + 300_000)
    events = lab.frames(frames, [DECKY])
    # A FIN that the capture has before what it acknowledges is not believed until that comes.
    assert [name for name in names(events) if name != "tcp_anomaly"] == EVERY
    assert one(events, "tcp_anomaly")["technique"] == "refused_ack"
    assert one(events, "tcp_flow_timing").keys() >= TIMES
    assert counts(lab) == {}


def test_the_warning_names_the_frame_and_the_jump(tmp_path: Path) -> None:
    frames = moved(talk().frames, lambda n: n == 4, HOUR)
    path = tmp_path / "jump.pcap"
    path.write_bytes(pcap([foreign(START_NS + YEAR), *frames]))
    command = ["replay", "--format", "json", "--decky", f"{DECKY}=web", str(path)]
    ended = subprocess.run(
        [sys.executable, "-m", "deckwire", *command], capture_output=True, text=True, check=True
    )
    out, (line,) = ended.stdout, ended.stderr.splitlines()
    assert f"{path}: frame 6 is stamped 3600.001000 s later than the frames before it" in line
    assert "time jumps in this capture: 2" in line
    stats = [json.loads(line) for line in out.splitlines() if '"capture_stats"' in line][-1]
    assert stats["fields"]["time_jumps_forward"] == stats["fields"]["time_jumps_back"] == 1
