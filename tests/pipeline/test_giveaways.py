"""Deckies that open connections, and deckies that are not what they play, by replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from deckwire.captures import Frame
from deckwire.config import Settings
from deckwire.deckies import Decky, parse_address
from deckwire.events.event import WARNING, Event
from deckwire.events.ignore import read_rules
from tests.pipeline.test_pipeline import kernel
from tests.support.bpf_frames import LINUX_OPTIONS, MSS, ethernet, ipv4, ipv6, tcp
from tests.support.conversation import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    MS,
    SECOND,
    START_NS,
    STRANGER,
    Conversation,
    in_time,
)
from tests.support.declared import check_declared
from tests.support.emitted import names, of, one
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

DECKY_C = "198.51.100.9"
DEDUP = Settings(dedup_ttl=300.0)
EACH = Settings(dedup_ttl=0.0)


# --- decky_initiated ---


@pytest.mark.parametrize(
    ("decky", "peer", "direction"),
    [
        (DECKY, CLIENT, "outbound"),
        (DECKY6, CLIENT6, "outbound"),
        (DECKY, DECKY_B, "lateral"),
    ],
)
def test_a_connection_that_a_decky_opens_is_reported(
    lab: ReplayLab, decky: str, peer: str, direction: str
) -> None:
    frames = Conversation(decky, peer, server_port=22).open().close().frames
    events = lab.frames(frames, [decky, DECKY_B], EACH)
    (event,) = [event for event in events if event.name == "decky_initiated"]
    assert (event.host, event.severity) == ("d-0", WARNING)
    fields = dict(event.fields)
    assert fields["src_ip"] == decky
    assert (fields["dst_ip"], fields["dst_port"]) == (peer, 22)
    assert (fields["direction"], fields["ttl"]) == (direction, 64)
    assert fields.get("dst_decky") == ("d-1" if direction == "lateral" else None)
    syn = one(events, "tcp_syn_fingerprint")
    for name in ("p0f_sig", "ja4t", "os", "src_mac", "conn_id"):
        assert fields[name] == syn[name], name
    check_declared(events)


def test_an_inbound_connection_is_none_of_it(lab: ReplayLab) -> None:
    events = lab.frames(Conversation().open().close().frames, [DECKY], EACH)
    assert not of(events, "decky_initiated")


def test_a_syn_that_nobody_answers_is_reported(lab: ReplayLab) -> None:
    events = lab.frames(Conversation(DECKY, CLIENT).syn().frames, [DECKY], EACH)
    assert one(events, "decky_initiated")["dst_port"] == 443


def test_a_handshake_without_its_syn_is_reported_without_its_fields(lab: ReplayLab) -> None:
    frames = Conversation(DECKY, CLIENT).open().close().frames[1:]
    events = lab.frames(frames, [DECKY], EACH)
    fields = one(events, "decky_initiated")
    assert fields["dst_ip"] == CLIENT
    assert not {"ttl", "p0f_sig", "src_mac"} & set(fields)


def scan(ports: Iterable[int], peers: Sequence[str], gap_ns: int = 5 * MS) -> list[Frame]:
    """SYNs of a decky, to each port of each peer."""
    syns = [
        Conversation(DECKY, peer, 40_000 + n, port).syn()
        for n, (peer, port) in enumerate((peer, port) for peer in peers for port in ports)
    ]
    for n, syn in enumerate(syns):
        syn.frames = [Frame(START_NS + n * gap_ns, 1, f.data, f.wire_len) for f in syn.frames]
    return in_time(*syns)


def test_each_peer_and_port_is_reported_once(lab: ReplayLab) -> None:
    """The kernel suppresses equal SYNs, but not those to other ports."""
    once = scan(range(20, 30), [DECKY_B, CLIENT, STRANGER])
    again = [Frame(f.time_ns + 5 * SECOND, 1, f.data, f.wire_len) for f in once]
    with kernel(lab, DEDUP):
        events = lab.frames([*once, *again], [DECKY, DECKY_B], DEDUP)
    found = [(e["dst_ip"], e["dst_port"]) for e in of(events, "decky_initiated")]
    assert len(found) == len(set(found)) == 30


def test_the_decky_is_the_source_whoever_is_the_attacker(lab: ReplayLab) -> None:
    peer = Settings(dedup_ttl=0.0, outbound_source="peer")
    events = lab.frames(Conversation(DECKY, CLIENT).open().close().frames, [DECKY], peer)
    fields = one(events, "decky_initiated")
    assert (fields["src_ip"], fields["src_port"], fields["dst_ip"]) == (DECKY, 40_000, CLIENT)
    check_declared(events)


@pytest.mark.parametrize(("lateral", "reported"), [("emit", 1), ("hold", 1), ("drop", 0)])
def test_what_holds_for_lateral_events_holds_for_it(
    lab: ReplayLab, lateral: str, reported: int
) -> None:
    settings = Settings(dedup_ttl=0.0, lateral=lateral)
    frames = Conversation(DECKY, DECKY_B).open().close().frames
    events = lab.frames(frames, [DECKY, DECKY_B], settings)
    assert len(of(events, "decky_initiated")) == reported


# --- decky_mismatch ---

WINDOWS_OPTIONS = MSS + b"\x01\x03\x03\x08\x01\x01\x04\x02"
"""Of a SYN-ACK to a SYN without timestamps."""
LINUX_UNSTAMPED = MSS + b"\x01\x01\x04\x02\x01\x03\x03\x07"
MACOS_OPTIONS = (
    MSS + b"\x01\x03\x03\x06\x01\x01\x08\x0a\x00\x00\x10\x01\x00\x00\x10\x01\x04\x02\x00\x00"
)
FREEBSD_OPTIONS = MSS + b"\x01\x03\x03\x06\x04\x02\x08\x0a\x00\x00\x10\x01\x00\x00\x10\x01"


def stamped(value: int) -> bytes:
    return MSS + b"\x04\x02\x08\x0a" + value.to_bytes(4, "big") + bytes(4) + b"\x01\x03\x03\x07"


def opening(
    number: int,
    server: str = DECKY,
    client: str = CLIENT,
    *,
    port: int = 80,
    options: bytes = LINUX_OPTIONS,
    ttl: int = 64,
    ip_id: int = 0,
    isn: int | None = None,
    window: int = 65_160,
    at_ns: int | None = None,
) -> list[Frame]:
    """A handshake with a decky, half a second after the one before; the server's own SYN-ACK."""
    start_ns = START_NS + number * SECOND // 2 if at_ns is None else at_ns
    sport = 30_000 + number
    isn = (number + 1) * 0x1357_9BDF & 0xFFFF_FFFF if isn is None else isn
    ends = (client, server)
    segments: list[tuple[bytes, tuple[str, str], dict[str, Any]]] = [
        (tcp(b"", sport, port, seq=7, options=LINUX_OPTIONS), ends, {"ttl": 64}),
        (
            tcp(b"", port, sport, seq=isn, ack=8, flags="SA", window=window, options=options),
            ends[::-1],
            {"ttl": ttl, "ip_id": ip_id},
        ),
        (tcp(b"", sport, port, seq=8, ack=isn + 1, flags="A"), ends, {"ttl": 64}),
    ]
    frames = []
    for at, (segment, (src, dst), ip) in enumerate(segments):
        if ":" in src:
            packet = ipv6(segment, src, dst, hop_limit=ip["ttl"])
        else:
            packet = ipv4(segment, src, dst, **ip)
        data = ethernet(packet)
        frames.append(Frame(start_ns + at * MS, 1, data, len(data)))
    return frames


def played(
    system: str | None = None, services: Sequence[str] = (), address: str = DECKY, name: str = "d"
) -> Decky:
    return Decky(name, parse_address(address), system, tuple(services))


def mismatches(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Host and kind of each finding."""
    return [(event["host"], event["mismatch"]) for event in of(events, "decky_mismatch")]


SYSTEMS: dict[str, tuple[dict[str, Any], str]] = {
    "Linux": ({}, "linux"),
    "Linux, no timestamps": ({"options": LINUX_UNSTAMPED}, "linux"),
    "Linux, only MSS": ({"options": MSS}, "linux"),
    "Windows": (
        {"options": WINDOWS_OPTIONS, "ttl": 128, "ip_id": 7, "window": 65_535},
        "windows",
    ),
    "macOS": ({"options": MACOS_OPTIONS, "window": 65_535}, "macos"),
    "FreeBSD": ({"options": FREEBSD_OPTIONS, "window": 65_535}, "freebsd"),
    "FreeBSD, large buffers": (
        {"options": FREEBSD_OPTIONS.replace(b"\x03\x03\x06", b"\x03\x03\x08"), "window": 65_535},
        "freebsd",
    ),
}
"""What real systems answer, and what a registry calls them."""


def shown(
    lab: ReplayLab, cases: Iterable[tuple[Decky, dict[str, Any]]]
) -> list[tuple[Decky, list[dict[str, Any]]]]:
    """The findings about each decky, of one replay; each gets an address and a name of its own."""
    fleet, frames = [], []
    for number, (decky, changes) in enumerate(cases):
        address = f"198.51.100.{number + 10}"
        fleet.append(replace(decky, name=f"d-{number}", address=parse_address(address)))
        for again in range(3):
            frames += opening(3 * number + again, address, **changes)
    events = lab.frames(frames, fleet, EACH)
    check_declared(events)
    found = of(events, "decky_mismatch")
    return [(one, [each for each in found if each["host"] == one.name]) for one in fleet]


def kinds(found: Iterable[dict[str, Any]]) -> list[str]:
    return sorted({each["mismatch"] for each in found})


def test_a_decky_that_is_what_it_plays_is_silent(lab: ReplayLab) -> None:
    cases = []
    for system, (changes, claim) in SYSTEMS.items():
        for said in (claim, "something else", None, "embedded" if "Linux" in system else claim):
            cases.append((played(said), changes))
    assert [one for one in shown(lab, cases) if one[1]] == []


def test_a_linux_that_plays_another_system_is_reported(lab: ReplayLab) -> None:
    claims = ("Windows 10", "macOS 14", "FreeBSD 14.1")
    cases = [(played(claim), {"ttl": ttl}) for claim in claims for ttl in (64, 128)]
    for (decky, found), (_, changes) in zip(shown(lab, cases), cases, strict=True):
        expected = {"system"}
        if (changes["ttl"] == 64) == (decky.os == "Windows 10"):
            expected.add("ttl")
        if decky.os == "Windows 10":
            expected.add("ip_id")
        assert set(kinds(found)) == expected, (decky, changes)
        first = found[0]
        assert (first["dst_ip"], first["claimed"]) == (str(decky.address), decky.os)
        assert "Linux" in first["evidence"]


def test_a_windows_that_plays_linux_is_reported(lab: ReplayLab) -> None:
    changes, _ = SYSTEMS["Windows"]
    events = lab.frames(opening(0, **changes), [played("Ubuntu 22.04")], EACH)
    assert mismatches(events) == [("d", "system"), ("d", "ttl")]


def test_a_ttl_is_that_of_the_system_less_some_hops(lab: ReplayLab) -> None:
    right = [("linux", 64), ("linux", 30), ("windows", 128), ("windows", 93), ("embedded", 255)]
    wrong = [("linux", 28), ("linux", 65), ("windows", 92)]
    cases = [(played(claim), {"ttl": ttl, "options": MSS}) for claim, ttl in (*right, *wrong)]
    for changes in (changes for decky, changes in cases if decky.os == "windows"):
        changes["ip_id"] = 7
    found = [kinds(each) for _, each in shown(lab, cases)]
    assert found == [[]] * len(right) + [["ttl"]] * len(wrong)


def test_a_hop_limit_may_be_a_routers_choice(lab: ReplayLab) -> None:
    frames = opening(0, DECKY6, CLIENT6, ttl=255, options=MSS)
    assert not mismatches(lab.frames(frames, [played("linux", address=DECKY6)], EACH))


def test_a_windows_that_does_not_count_identifications_is_reported(lab: ReplayLab) -> None:
    changes = {**SYSTEMS["Windows"][0], "ip_id": 0}
    frames = [opening(n, **changes) for n in range(3)]
    two = lab.frames([*frames[0], *frames[1]], [played("windows")], EACH)
    assert not mismatches(two)
    three = lab.frames([*frames[0], *frames[1], *frames[2]], [played("windows")], EACH)
    assert mismatches(three) == [("d", "ip_id")]


def test_a_port_that_no_service_has_is_reported(lab: ReplayLab) -> None:
    listed: list[tuple[list[str], int]] = [
        (["ssh", "http"], 80),
        (["ssh", "8443"], 8443),
        (["ssh", "unheard-of"], 443),
        (["ftp"], 40_123),
        ([], 80),
    ]
    unlisted = [(["ssh", "http"], 443), (["ftp"], 80)]
    cases = [(played(services=names), {"port": port}) for names, port in (*listed, *unlisted)]
    found = shown(lab, cases)
    assert [kinds(each) for _, each in found] == [[]] * len(listed) + [["port_open"]] * 2
    first = found[len(listed)][1][0]
    assert (first["dst_port"], first["claimed"]) == (443, "ssh, http")


def test_each_finding_is_reported_once_a_window(lab: ReplayLab) -> None:
    decky = played("windows", ["ssh"])
    frames = [f for n in range(8) for f in opening(n, port=80 + n % 2, client=f"192.0.2.{n + 20}")]
    with kernel(lab, DEDUP):
        events = lab.frames(frames, [decky], DEDUP)
    found = of(events, "decky_mismatch")
    assert sorted((one["mismatch"], one.get("dst_port")) for one in found) == [
        *(("ip_id", None), ("port_open", 80), ("port_open", 81), ("system", None), ("ttl", None)),
    ]


# --- ports, by the answers to SYN scans ---

CLOSED = [played(services=["ssh", "8080", "smb"])]
THIRD = "192.0.2.50"


def knock(
    at_s: float,
    source: str,
    port: int,
    reply: str,
    seq: int = 0,
    kind: str = "S",
    **replied: int,
) -> Any:
    """A probe of the decky, and its reply a millisecond later, whose IP header has `replied`."""
    ip: Callable[..., bytes] = ipv6 if ":" in source else ipv4
    to = DECKY6 if ":" in source else DECKY
    frames = [ip(tcp(sport=5_000, dport=port, flags=kind, window=1_024), source, to)]
    if reply:
        segment = tcp(sport=port, dport=5_000, flags=reply, seq=seq, ack=1_001)
        frames.append(ip(segment, to, source, **replied))
    start_ns = START_NS + round(at_s * SECOND)
    whole = [ethernet(frame) for frame in frames]
    return [Frame(start_ns + n * MS, 1, data, len(data)) for n, data in enumerate(whole)]


def probed(
    lab: ReplayLab,
    knocks: Iterable[list[Frame]],
    fleet: Sequence[Decky] = CLOSED,
    settings: Settings = EACH,
) -> list[dict[str, Any]]:
    """The findings of a replay. The kernel's table is read when a frame comes, so at 3 s too."""
    frames = sorted((frame for one in [*knocks, later(3)] for frame in one), key=_time_of)
    lab.scans = True
    try:
        events = lab.frames(frames, fleet, settings)
    finally:
        lab.scans = False
    check_declared([event for event in events if event.name == "decky_mismatch"])
    return of(events, "decky_mismatch")


def _time_of(frame: Frame) -> int:
    return frame.time_ns


def later(at_s: float) -> list[Frame]:
    """A frame that makes the capture longer."""
    return knock(at_s, STRANGER, 9, "")


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_a_listed_port_that_refuses_for_long_is_reported(lab: ReplayLab, client: str) -> None:
    fleet = [played(services=["ssh"], address=DECKY6 if ":" in client else DECKY)]
    other = "2001:db8::77" if ":" in client else STRANGER
    knocks = [knock(0, client, 22, "RA"), knock(3, client, 23, "RA"), knock(40, other, 22, "RA")]
    (found,) = probed(lab, [*knocks, knock(45, other, 23, "RA")], fleet)
    assert (found["mismatch"], found["dst_port"], found["host"]) == ("port_closed", 22, "d")
    assert found["claimed"] == "ssh"
    assert "port 22 of its service ssh refuses SYNs" in found["evidence"]


def test_one_source_that_is_refused_again_is_enough(lab: ReplayLab) -> None:
    again = [knock(0, CLIENT, 8080, "RA"), knock(44, CLIENT, 8080, "RA"), later(50)]
    assert [one["dst_port"] for one in probed(lab, again)] == [8080]
    assert not probed(lab, [again[0], knock(20, CLIENT, 8080, "RA"), later(50)])


UNKNOWN: dict[str, list[list[Frame]]] = {
    "one refusal": [knock(0, CLIENT, 22, "RA"), later(500)],
    "a decky that is starting": [knock(n, f"192.0.2.{n + 60}", 22, "RA") for n in range(25)],
    "it answered in between": [
        *(knock(0, CLIENT, 22, "RA"), knock(20, STRANGER, 22, "SA", seq=5)),
        *(knock(60, THIRD, 22, "RA"), later(65)),
    ],
    "resets of wrong ACKs": [
        *(knock(0, CLIENT, 22, "R", seq=9), knock(60, STRANGER, 22, "R", seq=9)),
        *(knock(61, THIRD, 22, "R"), later(65)),
    ],
    "resets of connections": [
        *(knock(0, CLIENT, 22, "RA", seq=9), knock(60, STRANGER, 22, "RA", seq=9), later(65)),
    ],
    "probes that systems answer each in its own way": [
        *(knock(at, who, 22, "RA", kind=kind)
          for at, who, kind in ((0, CLIENT, "F"), (60, STRANGER, "FPU"), (61, THIRD, ""))),
        later(65),
    ],
    "a port that the service may lack": [
        *(knock(0, CLIENT, 139, "RA"), knock(60, STRANGER, 139, "RA"), later(65)),
    ],
    "a port of no service": [
        *(knock(0, CLIENT, 25, "RA"), knock(60, STRANGER, 25, "RA"), later(65)),
    ],
    "no answer": [knock(0, CLIENT, 22, ""), knock(60, STRANGER, 22, ""), later(65)],
}  # fmt: skip


@pytest.mark.parametrize("about", UNKNOWN)
def test_what_may_be_no_closed_port_is_not_reported(lab: ReplayLab, about: str) -> None:
    assert not probed(lab, UNKNOWN[about])


def test_nothing_is_known_of_deckies_without_services(lab: ReplayLab) -> None:
    knocks = [knock(0, CLIENT, 22, "RA"), knock(60, STRANGER, 22, "RA"), later(65)]
    for services in ([], ["ssh", "unheard-of"]):
        assert not probed(lab, knocks, [played(services=services)])


def test_an_unlisted_port_that_answers_a_syn_is_reported_once(lab: ReplayLab) -> None:
    """Without a handshake, and although its record is read again and again."""
    knocks = [knock(0, CLIENT, 4444, "SA", seq=5), *(knock(2 * n, CLIENT, n, "RA") for n in (1, 9))]
    (found,) = probed(lab, [*knocks, knock(30, CLIENT, 22, "SA", seq=6), later(40)])
    assert (found["mismatch"], found["dst_port"]) == ("port_open", 4444)
    handshake = opening(1, port=4444)
    (found,) = probed(lab, [handshake, later(9)])
    assert (found["mismatch"], found["dst_port"]) == ("port_open", 4444)


def test_a_finding_of_scans_is_reported_once_a_window(lab: ReplayLab) -> None:
    knocks = [knock(n, f"192.0.2.{n + 10}", 22, "RA") for n in range(0, 200, 8)]
    knocks += [knock(n, f"192.0.2.{n + 10}", 4444, "SA", seq=5) for n in range(200, 240, 8)]
    found = probed(lab, knocks, settings=DEDUP)
    assert [one["dst_port"] for one in found] == [22, 4444]


LOOKS: list[tuple[str, dict[str, int], list[str]]] = [
    ("linux", {"ttl": 64, "ip_id": 0}, []),
    ("linux", {"ttl": 128, "ip_id": 7}, ["ttl"]),
    ("windows", {"ttl": 128, "ip_id": 7}, []),
    ("windows", {"ttl": 64, "ip_id": 0}, ["ttl", "ip_id"]),
    ("windows", {"ttl": 128, "ip_id": 0}, ["ip_id"]),
    ("freebsd", {"ttl": 255, "ip_id": 0}, ["ttl"]),
    ("embedded", {"ttl": 255, "ip_id": 0}, []),
    ("something else", {"ttl": 128, "ip_id": 0}, []),
]
"""What a registry says, the RST of a closed port, and what is found."""


@pytest.mark.parametrize(("claim", "look", "expected"), LOOKS)
def test_the_rst_of_a_closed_port_is_that_of_the_system(
    lab: ReplayLab, claim: str, look: dict[str, int], expected: list[str]
) -> None:
    knocks = [knock(n, CLIENT, 100 + n, "RA", **look) for n in range(3)]
    settings = Settings(dedup_ttl=300.0)
    found = probed(lab, [*knocks, later(9)], [played(claim)], settings)
    assert [each["mismatch"] for each in found] == expected
    for each in found:
        assert (each["claimed"], "dst_port" in each) == (claim, False)
        shows = "RST begins with" if each["mismatch"] == "ttl" else "3 answers in a row is 0"
        assert shows in each["evidence"]


@pytest.mark.parametrize(
    ("about", "knocks"),
    [
        ("two without identification", [(CLIENT, 0, "RA", 0), (CLIENT, 1, "RA", 0)]),
        ("one that has one", [(CLIENT, 0, "RA", 0), (CLIENT, 1, "RA", 9), (CLIENT, 2, "RA", 0)]),
        ("one again and again", [(CLIENT, 0, "RA", 0)] * 4),
        ("of no SYN", [(CLIENT, n, "R", 0) for n in range(4)]),
    ],
)
def test_a_few_identifications_of_0_are_a_coincidence(
    lab: ReplayLab, about: str, knocks: list[tuple[str, int, str, int]]
) -> None:
    frames = [
        knock(at, source, port + 100, reply, ttl=128, ip_id=ip_id)
        for at, (source, port, reply, ip_id) in enumerate(knocks)
    ]
    assert not probed(lab, [*frames, later(9)], [played("windows")]), about


def test_the_rst_of_a_closed_port_over_ipv6_shows_nothing(lab: ReplayLab) -> None:
    knocks = [knock(n, CLIENT6, 100 + n, "RA", hop_limit=64) for n in range(4)]
    assert not probed(lab, [*knocks, later(9)], [played("windows", address=DECKY6)])


def test_the_rst_of_each_target_is_compared_once(lab: ReplayLab) -> None:
    """Although the record of its source is read again and again."""
    knocks = [knock(0, CLIENT, 99, "RA", ttl=64, ip_id=7)]
    knocks += [knock(n, CLIENT, 0, "", kind="A") for n in range(1, 9)]
    (found,) = probed(lab, [*knocks, later(40)], [played("windows")])
    assert found["mismatch"] == "ttl"


@pytest.mark.parametrize(
    ("rule", "reported"),
    [
        ({"source": CLIENT}, True),
        ({"source": [CLIENT, STRANGER]}, False),
        ({"event": "decky_*"}, False),
        ({"destination": DECKY, "port": 22}, False),
        ({"direction": "lateral"}, True),
    ],
)
def test_rules_hold_for_findings(lab: ReplayLab, rule: dict[str, Any], reported: bool) -> None:
    settings = replace(EACH, ignore=read_rules(rule))
    knocks = [knock(0, CLIENT, 22, "RA"), knock(60, STRANGER, 22, "RA"), later(65)]
    assert bool(probed(lab, knocks, settings=settings)) == reported
    frames = opening(0, port=22, client=STRANGER, ttl=200)
    events = lab.frames(frames, [played("linux", ["http"])], settings)
    assert bool(of(events, "decky_mismatch")) == reported


FLEET = [played(name=name, address=address) for name, address in
         (("web", DECKY), ("mail", DECKY_B), ("files", DECKY_C))]  # fmt: skip


def clocked(
    number: int, server: str, offset: int, client: str = CLIENT, rate: int = 1_000
) -> list[Frame]:
    """A handshake with a decky whose timestamp clock has this offset."""
    at_ns = START_NS + number * SECOND // 2
    value = (offset + number * rate // 2) & 0xFFFF_FFFF
    return opening(number, server, client, options=stamped(value), at_ns=at_ns)


@pytest.mark.parametrize(
    ("rate", "offset"), [(1_000, 123_456), (250, 77), (100, 2**32 - 60)], ids=["", "", "wraps"]
)
def test_three_deckies_on_one_clock_are_reported(lab: ReplayLab, rate: int, offset: int) -> None:
    servers = [DECKY, DECKY_B, DECKY_C]
    frames = [f for n, to in enumerate(servers) for f in clocked(n, to, offset + 3, rate=rate)]
    events = lab.frames(frames, FLEET, EACH)
    assert sorted(mismatches(events)) == [
        (name, "shared_clock") for name in ("files", "mail", "web")
    ]
    for found in of(events, "decky_mismatch"):
        assert sorted([*found["shared_with"], found["host"]]) == ["files", "mail", "web"]
        assert f"{rate} Hz" in found["evidence"]
    check_declared(events)


def test_two_deckies_are_reported_if_two_clients_saw_the_clock(lab: ReplayLab) -> None:
    frames = [clocked(n, (DECKY, DECKY_B)[n % 2], 99, (CLIENT, STRANGER)[n // 2]) for n in range(4)]
    one_client = [f for part in frames[:2] for f in part]
    assert not mismatches(lab.frames(one_client, FLEET, EACH))
    both = [f for part in frames for f in part]
    assert sorted(mismatches(lab.frames(both, FLEET, EACH))) == [
        ("mail", "shared_clock"),
        ("web", "shared_clock"),
    ]


def test_clocks_with_an_offset_for_each_connection_are_not_shared(lab: ReplayLab) -> None:
    """As Linux has them: another offset for each decky and client."""
    frames = []
    for n in range(30):
        server, client = (DECKY, DECKY_B, DECKY_C)[n % 3], (CLIENT, STRANGER, "192.0.2.77")[n % 2]
        offset = hash((n % 3, n % 2)) * 0x9E37_79B9 & 0xFFFF_FFFF
        frames += clocked(n, server, offset, client)
    assert not mismatches(lab.frames(frames, FLEET, EACH))


def test_two_addresses_of_one_decky_have_one_clock(lab: ReplayLab) -> None:
    names_ = ("web", "web", "web")
    fleet = [
        played(name=name, address=address)
        for name, address in zip(names_, (DECKY, DECKY_B, DECKY_C), strict=True)
    ]
    frames = [f for n in range(6) for f in clocked(n, (DECKY, DECKY_B, DECKY_C)[n % 3], 5)]
    assert not mismatches(lab.frames(frames, fleet, EACH))


def counted(values: Iterable[int], member: str) -> list[Frame]:
    """Handshakes with two deckies in turns, whose numbers are these."""
    frames: list[Frame] = []
    for n, value in enumerate(values):
        changes: dict[str, Any] = {member: value, "options": MSS}
        frames += opening(n, (DECKY, DECKY_B)[n % 2], **changes)
    return frames


@pytest.mark.parametrize(
    ("member", "values", "kind"),
    [
        ("ip_id", range(65_533, 65_539), "shared_ip_id"),
        ("isn", range(2**32 - 100_000, 2**32 + 400_000, 64_000), "shared_isn"),
    ],
)
def test_numbers_that_two_deckies_count_together_are_reported(
    lab: ReplayLab, member: str, values: range, kind: str
) -> None:
    mask = 0xFFFF if member == "ip_id" else 0xFFFF_FFFF
    counts = [value & mask for value in values if value & mask][:7]
    assert len(counts) >= 6 - (member == "ip_id")
    if member == "ip_id":
        counts.append(counts[-1] + 1)
    events = lab.frames(counted(counts, member), FLEET, EACH)
    assert set(mismatches(events)) == {("web", kind), ("mail", kind)}
    assert not mismatches(lab.frames(counted(counts[:5], member), FLEET, EACH))
    check_declared(events)


def test_deckies_that_count_for_themselves_are_silent(lab: ReplayLab) -> None:
    """Each has a counter of its own, and they are close to each other."""
    values = [value for n in range(12) for value in (1_000 + n, 1_003 + n)]
    assert not mismatches(lab.frames(counted(values, "ip_id"), FLEET, EACH))


def test_a_jump_of_the_clock_forgets_the_stamps(lab: ReplayLab) -> None:
    frames = clocked(0, DECKY, 5) + clocked(1, DECKY_B, 5)
    late = clocked(2, DECKY_C, 5)
    year = 365 * 86_400 * SECOND
    jumped = [*frames, *(Frame(f.time_ns + year, 1, f.data, f.wire_len) for f in late)]
    assert not mismatches(lab.frames(jumped, FLEET, EACH))
    assert "decky_mismatch" in names(lab.frames([*frames, *late], FLEET, EACH))


# --- uptime ---


def test_the_uptime_of_a_source_is_in_its_syns(lab: ReplayLab) -> None:
    """Of a system without random offsets, and only from the third SYN on."""
    frames: list[Frame] = []
    for n in range(6):
        conversation = Conversation(
            CLIENT, (DECKY, DECKY_B)[n % 2], 40_000 + n, options=stamped(7_000_000 + n * 1_000)
        )
        conversation.now_ns = START_NS + n * SECOND
        frames += conversation.syn().frames
    syns = of(lab.frames(frames, [DECKY, DECKY_B], EACH), "tcp_syn_fingerprint")
    assert [one.get("uptime") for one in syns] == [None, None, 7_002, 7_003, 7_004, 7_005]
    assert {one.get("uptime_hz") for one in syns[2:]} == {1_000}
