"""Captures through the programs: every link type, super-packets, hostile files, the same bytes."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from deckwire.captures import Frame
from deckwire.output.json_lines import JsonFormat
from deckwire.runtime.feed import DRAIN_FRAMES, FRAME_BYTES
from tests.support import bpf_frames as wire
from tests.support.conversation import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    MS,
    SECOND,
    START_NS,
    Conversation,
    pcap,
)
from tests.support.emitted import names, of, one
from tests.support.flights import client_hello, handshake, message, record
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

FLIGHT = handshake(ssl.TLSVersion.TLSv1_2)
LINK = ("src_mac", "vlan")


def talk(client: str = CLIENT, server: str = DECKY) -> Conversation:
    conversation = Conversation(client, server)
    return conversation.open().send(FLIGHT.client).answer(FLIGHT.server).close()


def lines(
    lab: ReplayLab, frames: Iterable[Frame], deckies: Iterable[str] = (DECKY,)
) -> list[bytes]:
    """Lines without the fields of the link: other links have others, or none."""
    return [
        JsonFormat().line(event._replace(parts=tuple(f for f in event.fields if f[0] not in LINK)))
        for event in lab.frames(frames, deckies)
    ]


def family(packet: bytes) -> int:
    return 2 if packet[0] >> 4 == 4 else 30


def protocol(packet: bytes) -> bytes:
    return b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"


LINKS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "raw": (101, lambda packet: packet),
    "raw, old value": (12, lambda packet: packet),
    "null, little-endian": (0, lambda packet: struct.pack("<I", family(packet)) + packet),
    "null, big-endian": (0, lambda packet: struct.pack(">I", family(packet)) + packet),
    "loop": (108, lambda packet: struct.pack(">I", family(packet)) + packet),
    "cooked": (
        113,
        lambda packet: struct.pack(">HHH8s", 0, 1, 6, b"\2") + protocol(packet) + packet,
    ),
    "cooked 2": (
        276,
        lambda packet: protocol(packet) + struct.pack(">HIHBB8s", 0, 3, 1, 0, 6, b"\2") + packet,
    ),
}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("ends", [(CLIENT, DECKY), (CLIENT6, DECKY6)])
def test_every_link_type_gives_one_result(lab: ReplayLab, link: str, ends: tuple[str, str]) -> None:
    number, header = LINKS[link]
    ethernet = talk(*ends).frames
    other = [
        Frame(frame.time_ns, number, data := header(frame.data[14:]), len(data))
        for frame in ethernet
    ]
    emitted = lines(lab, other, ends)
    assert len(emitted) == 7
    assert emitted == lines(lab, ethernet, ends)


@pytest.mark.parametrize("number", [228, 229])
def test_raw_ip_of_one_version(lab: ReplayLab, number: int) -> None:
    ends = (CLIENT, DECKY) if number == 228 else (CLIENT6, DECKY6)
    ethernet = talk(*ends).frames
    raw = [Frame(f.time_ns, number, f.data[14:], len(f.data) - 14) for f in ethernet]
    assert lines(lab, raw, ends) == lines(lab, ethernet, ends)


@pytest.mark.parametrize("tags", [[(0x8100, 5)], [(0x88A8, 6), (0x8100, 7)]])
def test_vlan_and_qinq(lab: ReplayLab, tags: list[tuple[int, int]]) -> None:
    plain = talk().frames
    tagged = [
        replace(frame, data=data, wire_len=len(data))
        for frame in plain
        for data in [wire.ethernet(frame.data[14:], tags=tags)]
    ]
    assert lines(lab, tagged) == lines(lab, plain)


def test_other_link_types_are_counted(lab: ReplayLab) -> None:
    frames = [Frame(START_NS, 127, bytes(100), 100)]
    assert lines(lab, frames) == []


def test_a_super_packet_is_the_segments_it_stands_for(lab: ReplayLab) -> None:
    """One frame of 20 KB, captured before the card has cut it."""
    chain = FLIGHT.server
    whole = Conversation().open().send(FLIGHT.client).answer(chain + bytes(20_000), 60_000).close()
    cut = Conversation().open().send(FLIGHT.client).answer(chain + bytes(20_000)).close()
    together, apart = (lab.frames(talk.frames, [DECKY]) for talk in (whole, cut))
    assert names(together) == names(apart)
    flow = one(together, "tcp_flow_timing")
    assert flow["bytes_server"] == len(chain) + 20_000
    assert flow["packets_server"] > 2
    certificate = one(together, "tls_certificate")
    assert certificate["cert_sha256"] == one(apart, "tls_certificate")["cert_sha256"]


def test_a_hello_longer_than_a_test_run_takes(lab: ReplayLab) -> None:
    hello = record(message(1, client_hello((21, bytes(3 * FRAME_BYTES)))))
    conversation = Conversation().open().send(hello, 60_000).close()
    emitted = one(lab.frames(conversation.frames, [DECKY]), "tls_client_hello")
    assert (emitted["raw_extensions"], emitted["quality"]) == ("21", "reassembled")


def test_frames_that_the_capture_holds_in_part_are_counted(lab: ReplayLab) -> None:
    frames = Conversation().open().send(FLIGHT.client).close().frames
    cut = [replace(frame, data=frame.data[:96]) for frame in frames]
    assert lines(lab, cut, [DECKY])
    assert lab.replay is not None
    assert lab.replay.counts["frames_incomplete"] == 1


def test_the_same_capture_gives_the_same_bytes(lab: ReplayLab) -> None:
    frames = talk().frames + talk(CLIENT6, DECKY6).frames
    first = lines(lab, frames, [DECKY, DECKY6])
    assert len(first) == 12
    assert lines(lab, frames, [DECKY, DECKY6]) == first


def test_frames_that_a_test_run_refuses_are_counted(lab: ReplayLab) -> None:
    short = wire.ethernet(wire.ipv4(b"")[:10])
    short6 = wire.ethernet(wire.ipv6(b"")[:30])
    frames = [Frame(START_NS, 1, data, 60) for data in (short, short6, b"", b"\0" * 13)]
    assert lines(lab, frames) == []


def test_a_capture_longer_than_the_ring_loses_nothing(lab: ReplayLab) -> None:
    """All in one instant, so that no sweep drains the ring."""
    conversations = 3 * DRAIN_FRAMES // 8
    frames: list[Frame] = []
    for number in range(conversations):
        conversation = Conversation(client_port=10_000 + number, step_ns=0)
        conversation.open().send(FLIGHT.client).answer(FLIGHT.server).close()
        frames += conversation.frames
    events = lab.frames(frames, [DECKY])
    assert len(events) == 6 * conversations
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert sums["samples_lost"] == 0
    assert sums["samples_received"] == sums["samples_submitted"] == sums["samples_wanted"]
    assert sums["frames"] == len(frames)


def test_conservation(lab: ReplayLab) -> None:
    lab.frames(talk().frames, [DECKY])
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert sums["samples_received"] == sums["samples_decoded"] == sums["samples_submitted"]
    assert sums["events_made"] == sums["events_emitted"] == 6
    assert sums["events_suppressed"] == sums["events_dropped"] == 0


def test_frames_out_of_order_in_time_do_no_harm(lab: ReplayLab) -> None:
    frames = talk().frames
    frames[3], frames[4] = replace(frames[3], time_ns=0), replace(frames[4], time_ns=2**63 - 1)
    events = lab.frames(frames, [DECKY])
    assert "tls_client_hello" in names(events)
    flow = one(events, "tcp_flow_timing")
    assert flow["packets"] == len(frames)
    assert not {"duration_s", "mean_iat_ms", "min_iat_ms", "max_iat_ms"} & flow.keys()


def test_each_connection_idles_by_itself(lab: ReplayLab) -> None:
    """One sweep for each second of capture time, even with few frames between."""
    quiet = Conversation().open().send(b"hello")
    busy = Conversation(client_port=41_000, start_ns=START_NS + MS, step_ns=SECOND).open()
    for _ in range(130):
        busy.send(b"x")
    events = lab.frames(sorted(quiet.frames + busy.frames, key=lambda f: f.time_ns), [DECKY])
    closes = {flow["src_port"]: flow["close"] for flow in of(events, "tcp_flow_timing")}
    assert closes == {40_000: "idle", 41_000: "shutdown"}


def test_a_file_gives_what_its_frames_give(lab: ReplayLab, tmp_path: Path) -> None:
    frames = talk().frames
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap(frames))
    assert lab.capture(path, [DECKY]) == lab.frames(frames, [DECKY])


@pytest.mark.parametrize("ends", [(CLIENT, DECKY), (CLIENT6, DECKY6), (DECKY, CLIENT)])
@pytest.mark.parametrize("cut", ["S", "SA"])
def test_options_that_a_snapshot_length_cut_are_not_taken_for_none(
    lab: ReplayLab, ends: tuple[str, str], cut: str
) -> None:
    frames = talk(*ends).frames
    number = 0 if cut == "S" else 1
    short = frames[number].data[:-4]
    frames[number] = replace(frames[number], data=short)
    events = lab.frames(frames, ends)
    assert ("tcp_syn_fingerprint" in names(events)) is (cut == "SA")
    fields = {name for event in events for name, _ in event.fields}
    assert ("ja4ts" in fields, "server_p0f_sig" in fields) == (cut == "S", cut == "S")
    shook = one(events, "tcp_handshake")
    assert shook.keys() >= {"rtt_server_us", "client_ttl", "server_ttl"}
    assert lab.last is not None
    assert lab.last.pipeline.counts["syn_options_cut"] == (cut == "S")
