"""Every tool and system is recognised in a replay, from the frame to the emitted line.

One capture holds all cases, each from a source of its own, and is replayed once. Each case has near
misses: they differ in one trait and must not be recognised.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from deckwire.captures import Frame
from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.support.bpf_frames import DECKY6_B, DF, ethernet, ipv4, ipv6, tcp
from tests.support.conversation import (
    DECKY,
    DECKY6,
    DECKY_B,
    MS,
    SECOND,
    START_NS,
    STRANGER,
    Conversation,
    in_time,
    pcap,
)
from tests.support.fingerprint_frames import LINUX, MACOS, MSS, WINDOWS

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads programs"),
]

PORT = 8443
WATCHED = (DECKY, DECKY_B, DECKY6, DECKY6_B)


def number(address: str) -> int:
    return int(ip_address(address))


@dataclass(frozen=True)
class Syn:
    """A SYN packet as tools build it: no options, DF not set, an IP id."""

    options: bytes = b""
    window: int = 1024
    ttl: int = 250
    ip_id: int = 0x1234
    df: bool = False
    seq: int = 0x01020304
    ack: int = 0
    flags: str = "S"
    urgent: int = 0
    destination: str = DECKY
    port: int = PORT
    source: str = ""
    """Source address; "" for the address of the case."""
    tags: tuple[tuple[int, int], ...] = ()

    def frame(self, source: str) -> bytes:
        segment = tcp(
            dport=self.port,
            seq=self.seq,
            ack=self.ack,
            flags=self.flags,
            window=self.window,
            urgent=self.urgent,
            options=self.options,
        )
        ends = self.source or source, self.destination
        if ":" in self.destination:
            packet = ipv6(segment, *ends, hop_limit=self.ttl, flow_label=0)
        else:
            fragment = DF if self.df else 0
            packet = ipv4(segment, *ends, ttl=self.ttl, ip_id=self.ip_id, fragment=fragment)
        return ethernet(packet, tags=self.tags)


def masscan(**changes: Any) -> Syn:
    """Return a SYN packet with the IP id that masscan computes."""
    made = Syn(**changes)
    relation = (number(made.destination) ^ made.port ^ made.seq) & 0xFFFF
    return replace(made, ip_id=relation)


MIRAI = Syn(seq=number(DECKY), window=31_000, ttl=50)
ZMAP = Syn(window=65_535, ip_id=54_321)
ZMAP_LINUX = Syn(window=65_535, options=LINUX, ttl=50)
ZMAP_WINDOWS = replace(ZMAP_LINUX, options=WINDOWS)
NMAP = Syn(options=MSS, ttl=44)
NMAP6 = Syn(options=MSS, destination=DECKY6)
HPING = Syn(window=512, ttl=60, ack=99)
UNICORNSCAN = Syn(window=4_128, options=MSS)
SCAPY = Syn(window=8_192, ip_id=1, ttl=60, seq=0)

STAMPS = b"\x08\x0a\xff\xff\xff\xff\x00\x00\x00\x00"
WS10, SOK = b"\x03\x03\x0a", b"\x04\x02"
MSS_265 = b"\x02\x04\x01\x09"
NMAP_OS = {
    "SEQ probe 1": Syn(window=1, options=WS10 + b"\x01" + MSS + STAMPS + SOK),
    "SEQ probe 2": Syn(window=63, options=b"\x02\x04\x05\x78\x03\x03\x00" + SOK + STAMPS + b"\x00"),
    "SEQ probe 3": Syn(window=4, options=STAMPS + b"\x01\x01\x03\x03\x05\x01\x02\x04\x02\x80"),
    "SEQ probe 4": Syn(window=4, options=SOK + STAMPS + WS10 + b"\x00"),
    "SEQ probe 5": Syn(window=16, options=b"\x02\x04\x02\x18" + SOK + STAMPS + WS10 + b"\x00"),
    "SEQ probe 6": Syn(window=512, options=MSS_265 + SOK + STAMPS),
    "ECN probe": Syn(
        window=3, flags="SEC", urgent=0xF7F5, options=WS10 + b"\x01" + MSS + SOK + b"\x01\x01"
    ),
    "T3 probe": Syn(window=256, flags="SFUP", options=WS10 + b"\x01" + MSS_265 + STAMPS + SOK),
    "T5 probe": Syn(window=31_337, options=WS10 + b"\x01" + MSS_265 + STAMPS + SOK),
}

TOOLS: dict[str, tuple[Syn, str, str]] = {
    "mirai": (MIRAI, "mirai", "sequence number is the destination address; no options"),
    "mirai between deckies": (
        replace(MIRAI, source=DECKY_B),
        "mirai",
        "sequence number is the destination address; no options",
    ),
    "mirai on a decky, outbound": (
        replace(MIRAI, source=DECKY, destination=STRANGER, seq=number(STRANGER)),
        "mirai",
        "sequence number is the destination address; no options",
    ),
    "mirai in a VLAN": (
        replace(MIRAI, tags=((0x8100, 5),)),
        "mirai",
        "sequence number is the destination address; no options",
    ),
    "masscan": (
        masscan(seq=0xA6143EB3),
        "masscan",
        "ip id is destination address ^ port ^ sequence number; no options; window 1024; ttl 250",
    ),
    "masscan with an MSS": (
        masscan(options=MSS),
        "masscan",
        "ip id is destination address ^ port ^ sequence number; only an MSS; window 1024; ttl 250",
    ),
    "masscan, outbound": (
        masscan(source=DECKY_B, destination=STRANGER),
        "masscan",
        "ip id is destination address ^ port ^ sequence number; no options; window 1024; ttl 250",
    ),
    "zmap": (ZMAP, "zmap", "ip id 54321; window 65535; no don't-fragment"),
    "zmap with an MSS": (
        replace(ZMAP, options=MSS),
        "zmap",
        "ip id 54321; window 65535; no don't-fragment",
    ),
    "zmap 4.1 with an MSS": (
        replace(ZMAP_LINUX, options=MSS),
        "zmap",
        "no system's options; window 65535; no don't-fragment; ttl 50",
    ),
    "zmap 4.1 as Windows": (
        ZMAP_WINDOWS,
        "zmap",
        "Windows' options; window 65535; no don't-fragment; ttl 50",
    ),
    "zmap 4.1 as Linux": (
        ZMAP_LINUX,
        "zmap",
        "Linux's options; window 65535; no don't-fragment; ttl 50",
    ),
    "zmap 4.1 as macOS": (
        replace(ZMAP_LINUX, options=MACOS),
        "zmap",
        "macOS's options; window 65535; no don't-fragment; ttl 50",
    ),
    **{
        f"nmap with a window of {window}": (
            replace(NMAP, window=window),
            "nmap",
            f"SYN scan; window {window}; only an MSS of 1460; no don't-fragment; ttl 44",
        )
        for window in (1024, 2048, 3072, 4096)
    },
    "nmap over IPv6": (NMAP6, "nmap", "SYN scan; window 1024; only an MSS of 1460; ttl 250"),
    **{
        f"nmap's {probe}{' over IPv6' if destination == DECKY6 else ''}": (
            replace(made, destination=destination),
            "nmap",
            f"OS detection, {probe}; window {made.window} and its options",
        )
        for probe, made in NMAP_OS.items()
        for destination in (DECKY, DECKY6)
    },
    "hping": (
        HPING,
        "hping",
        "window 512; no options; no don't-fragment; acknowledgment number without ACK",
    ),
    "hping without an acknowledgment number": (
        replace(HPING, ack=0),
        "hping",
        "window 512; no options; no don't-fragment",
    ),
    "hping with timestamps": (
        replace(HPING, options=b"\x01\x01" + STAMPS),
        "hping",
        "window 512; only timestamps; no don't-fragment; acknowledgment number without ACK",
    ),
    "unicornscan": (
        UNICORNSCAN,
        "unicornscan",
        "window 4128; only an MSS of 1460; no don't-fragment; ttl 250",
    ),
    "scapy": (SCAPY, "scapy", "window 8192; ip id 1; no options"),
}

NO_TOOLS: dict[str, Syn] = {
    "mirai: the address and one": replace(MIRAI, seq=number(DECKY) + 1),
    "mirai: the address of another decky": replace(MIRAI, destination=DECKY_B),
    "mirai: the address in the order of bytes of x86": replace(
        MIRAI, seq=int.from_bytes(ip_address(DECKY).packed, "little")
    ),
    "mirai: with options": replace(MIRAI, options=MSS),
    "mirai: the last four bytes of an IPv6 address": replace(
        MIRAI, destination=DECKY6, seq=number(DECKY6) & 0xFFFF_FFFF
    ),
    "masscan: the IP id and one": replace(masscan(), ip_id=masscan().ip_id ^ 1),
    "masscan: of another port": replace(masscan(), port=PORT + 1),
    "masscan: of another decky": replace(masscan(), destination=DECKY_B),
    "masscan: don't fragment": replace(masscan(), df=True),
    "masscan: with a kernel's options": replace(masscan(), options=LINUX),
    "zmap: another IP id": replace(ZMAP, ip_id=54_320),
    "zmap: another window": replace(ZMAP, window=65_534),
    "zmap: don't fragment": replace(ZMAP, df=True),
    "zmap: over IPv6": replace(ZMAP, destination=DECKY6),
    "zmap 4.1: another MSS": replace(ZMAP_LINUX, options=b"\x02\x04\x05\xb3" + LINUX[4:]),
    "zmap 4.1: another window": replace(ZMAP_LINUX, window=65_534),
    "zmap 4.1: another window scale": replace(ZMAP_LINUX, options=LINUX[:-1] + b"\x08"),
    "zmap 4.1: IP id 0": replace(ZMAP_LINUX, ip_id=0),
    "zmap 4.1: don't fragment": replace(ZMAP_LINUX, df=True),
    "zmap 4.1: over IPv6": replace(ZMAP_LINUX, destination=DECKY6),
    "zmap 4.1: Windows' TTL": replace(ZMAP_WINDOWS, ttl=120),
    "nmap: another window": replace(NMAP, window=1025),
    "nmap: another MSS": replace(NMAP, options=b"\x02\x04\x05\xb3"),
    "nmap: one more option": replace(NMAP, options=MSS + b"\x01\x01\x04\x02"),
    "nmap: don't fragment": replace(NMAP, df=True),
    "nmap: a higher TTL": replace(NMAP, ttl=65),
    "nmap: an acknowledgment number": replace(NMAP, ack=1),
    "nmap over IPv6: another window": replace(NMAP6, window=1025),
    "nmap over IPv6: an acknowledgment number": replace(NMAP6, ack=1),
    **{
        f"nmap's {probe}: another window": replace(made, window=made.window + 7)
        for probe, made in NMAP_OS.items()
    },
    **{
        f"nmap's {probe}: one more option": replace(made, options=made.options + b"\x01" * 4)
        for probe, made in NMAP_OS.items()
        # After the end of options there are no more options.
        if not made.options.endswith(b"\x00")
    },
    "hping: another window": replace(HPING, window=513),
    "hping: an MSS": replace(HPING, options=MSS),
    "hping: don't fragment": replace(HPING, df=True),
    "hping: over IPv6": replace(HPING, destination=DECKY6),
    "unicornscan: another window": replace(UNICORNSCAN, window=4_129),
    "unicornscan: another MSS": replace(UNICORNSCAN, options=b"\x02\x04\x02\x18"),
    "unicornscan: another TTL": replace(UNICORNSCAN, ttl=120),
    "unicornscan: don't fragment": replace(UNICORNSCAN, df=True),
    "unicornscan: over IPv6": replace(UNICORNSCAN, destination=DECKY6),
    "scapy: another window": replace(SCAPY, window=8_193),
    "scapy: another IP id": replace(SCAPY, ip_id=2),
    "scapy: an MSS": replace(SCAPY, options=MSS),
    "scapy: don't fragment": replace(SCAPY, df=True),
    "scapy: over IPv6": replace(SCAPY, destination=DECKY6),
}

FREEBSD = MSS + b"\x01\x03\x03\x06\x04\x02\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x00"
OPENBSD = MSS + b"\x01\x01\x04\x02\x01\x03\x03\x06\x01\x01\x08\x0a\x00\x00\x00\x01" + bytes(4)
HOST = Syn(df=True, ttl=60)
LINUX_HOST = replace(HOST, options=LINUX, window=64_240)
WINDOWS_HOST = replace(HOST, options=WINDOWS, window=64_240, ttl=120)
MACOS_HOST = replace(HOST, options=MACOS, window=65_535, ip_id=0)
FREEBSD_HOST = replace(HOST, options=FREEBSD, window=65_535, ip_id=0)
OPENBSD_HOST = replace(HOST, options=OPENBSD, window=16_384)
CISCO = Syn(options=b"\x02\x04\x02\x18", window=4_128)

SYSTEMS: dict[str, tuple[Syn, str, str]] = {
    "Linux": (LINUX_HOST, "linux", "Linux 5.x-6.x"),
    "Windows": (WINDOWS_HOST, "windows", "Windows 10/11"),
    "macOS": (MACOS_HOST, "macos_ios", "macOS/iOS (10.11 or newer, iOS 9 or newer)"),
    "FreeBSD": (FREEBSD_HOST, "freebsd", "FreeBSD 11-14"),
    "OpenBSD": (OPENBSD_HOST, "openbsd", "OpenBSD 5.x-7.x"),
    "Cisco": (CISCO, "embedded", "Cisco IOS"),
}
NO_SYSTEMS: dict[str, Syn] = {
    "Linux: the order of options": replace(
        LINUX_HOST, options=MSS + LINUX[6:16] + SOK + LINUX[16:]
    ),
    "Windows: the order of options": replace(
        WINDOWS_HOST, options=MSS + b"\x01\x01\x03\x03\x08\x01\x04\x02"
    ),
    "macOS: other bytes after the options": replace(MACOS_HOST, options=MACOS[:-2] + b"\x01\x01"),
    "FreeBSD: the order of options": replace(
        FREEBSD_HOST, options=FREEBSD[:8] + FREEBSD[10:] + SOK
    ),
    "OpenBSD: another window": replace(OPENBSD_HOST, window=16_385),
    "Cisco: another window": replace(CISCO, window=4_129),
}

CASES: dict[str, Sequence[Syn]] = {
    **{name: [made] for name, (made, *_) in {**TOOLS, **SYSTEMS}.items()},
    **{name: [made] for name, made in {**NO_TOOLS, **NO_SYSTEMS}.items()},
    # Packets with different results must have different signatures in the kernel.
    "one source, not always mirai": [replace(MIRAI, seq=7), MIRAI, replace(MIRAI, seq=7)],
    "one source, not always masscan": [replace(masscan(), ip_id=7), masscan(), Syn(ip_id=7)],
}


def source(name: str, destination: str) -> str:
    """Return the source address of a case, which no other case has."""
    at = list(CASES).index(name)
    return f"2001:db8:9:{at:x}::1" if ":" in destination else f"10.9.{at // 200}.{1 + at % 200}"


def sent_by(name: str) -> set[tuple[str, str, int]]:
    """Return source, destination and port of each SYN packet of a case."""
    return {
        (made.source or source(name, made.destination), made.destination, made.port)
        for made in CASES[name]
    }


def syn_frames() -> list[Frame]:
    frames = []
    for name, sent in CASES.items():
        for made in sent:
            data = made.frame(source(name, made.destination))
            # The time between them is too long for a retransmission of the same 4-tuple.
            time_ns = START_NS + len(frames) * 200 * SECOND
            frames.append(Frame(time_ns, 1, data, len(data)))
    return frames


# --- connect scans ---


@dataclass(frozen=True)
class Touches:
    """Connections of one source to ports of a decky."""

    ports: Sequence[int] = (22, 80, 443)
    unanswered: Sequence[int] = ()
    data: bytes = b""
    banner: bytes = b""
    ends: str = "reset"
    linger_s: float = 0.0
    """Seconds between handshake and end."""
    apart_s: float = 0.0
    """Seconds between two ports."""
    v6: bool = False

    def talks(self, client: str, start_ns: int) -> Iterable[Conversation]:
        server = DECKY6 if self.v6 else DECKY
        for at, port in enumerate((*self.unanswered, *self.ports)):
            begin = start_ns + round(at * (20 * MS + self.apart_s * SECOND))
            talk = Conversation(client, server, 41_000 + at, port, start_ns=begin)
            if port in self.unanswered:
                yield talk.syn()
                continue
            talk.open()
            if self.banner:
                talk.answer(self.banner).ack()
            if self.data:
                talk.send(self.data)
            talk.wait(self.linger_s)
            yield talk.reset() if self.ends == "reset" else talk.close()


ANSWERED = "connect scan; handshake then reset; no data; services answered "
SCANS: dict[str, tuple[Touches, str]] = {
    "three services": (Touches(), ANSWERED + "3"),
    "three services over IPv6": (Touches(v6=True), ANSWERED + "3"),
    "one service and two without a response": (
        Touches(ports=[443], unanswered=[80, 81]),
        ANSWERED + "1; unanswered 2",
    ),
}
NO_SCANS: dict[str, Touches] = {
    "two services": Touches(ports=[22, 80]),
    "one service and one without a response": Touches(ports=[443], unanswered=[80]),
    "closed with FIN": Touches(ends="fin"),
    "data sent": Touches(data=b"GET / HTTP/1.0\r\n\r\n"),
    "banners left unread": Touches(banner=b"220 ready\r\n"),
    "reset later": Touches(linger_s=1.5),
    "too slow": Touches(apart_s=31),
}
TOUCHES = {**{name: made for name, (made, _) in SCANS.items()}, **NO_SCANS}


def scanner(name: str) -> str:
    at = list(TOUCHES).index(name)
    return f"2001:db8:a:{at:x}::1" if TOUCHES[name].v6 else f"10.10.0.{1 + at}"


def scan_frames() -> list[Frame]:
    talks: list[Conversation] = []
    for at, (name, made) in enumerate(TOUCHES.items()):
        talks += made.talks(scanner(name), START_NS + (at * 200 + 100) * SECOND)
    return in_time(*talks)


# --- servers by their SYN-ACK packets ---


SERVERS: dict[str, tuple[bytes, int, str | None]] = {
    # Options and TTL of the SYN-ACK; its window is 64,240.
    "Linux": (LINUX, 64, "Linux"),
    "Windows": (WINDOWS, 128, "Windows 10/11 or Server 2016 and newer"),
    "unknown: the order of options": (MSS + LINUX[6:16] + SOK + LINUX[16:], 64, None),
}


def client_of(name: str) -> str:
    return f"10.11.0.{1 + list(SERVERS).index(name)}"


def server_frames() -> list[Frame]:
    talks = []
    for at, (name, (options, ttl, _)) in enumerate(SERVERS.items()):
        start_ns = START_NS + at * SECOND + 50 * SECOND
        talk = Conversation(client_of(name), start_ns=start_ns, server_ttl=ttl).syn()
        talk.options = options
        talks.append(talk.synack().ack().close())
    return in_time(*talks)


# --- the replay ---


def replay(path: Path, *options: str) -> list[str]:
    watch = [word for address in WATCHED for word in ("--decky", address)]
    done = subprocess.run(
        [sys.executable, "-m", "deckwire", "replay", *watch, "--dedup-ttl", "0", *options, path],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the events that replaying the capture of all cases emits."""
    frames = sorted(syn_frames() + scan_frames() + server_frames(), key=lambda f: f.time_ns)
    path = tmp_path_factory.mktemp("recognised") / "all.pcap"
    path.write_bytes(pcap(frames))
    return [json.loads(line) for line in replay(path, "--format", "json")]


def fields(lines: list[dict[str, Any]], event: str, source: str) -> list[dict[str, Any]]:
    return [
        line["fields"]
        for line in lines
        if line["event"] == event and line["fields"]["src_ip"] == source
    ]


def syns(lines: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the fields of the SYN events of a case, in order."""
    ends = sent_by(name)
    return [
        line["fields"]
        for line in lines
        if line["event"] == "tcp_syn_fingerprint"
        and (line["fields"]["src_ip"], line["fields"]["dst_ip"], line["fields"]["dst_port"]) in ends
    ]


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_is_recognised(lines: list[dict[str, Any]], name: str) -> None:
    _, tool, evidence = TOOLS[name]
    (event,) = syns(lines, name)
    assert (event.get("tool"), event.get("tool_evidence")) == (tool, evidence)
    assert event["os_guess"] == ("nmap" if tool == "nmap" else "unknown")
    assert "os" not in event
    assert "os_class" not in event


@pytest.mark.parametrize("name", NO_TOOLS)
def test_a_near_miss_is_no_tool(lines: list[dict[str, Any]], name: str) -> None:
    (event,) = syns(lines, name)
    assert "tool" not in event
    assert "tool_evidence" not in event
    assert event["os_guess"] != "nmap"


@pytest.mark.parametrize("tool", ["mirai", "masscan"])
def test_a_source_may_also_send_other_packets(lines: list[dict[str, Any]], tool: str) -> None:
    events = syns(lines, f"one source, not always {tool}")
    assert [one.get("tool") for one in events] == [None, tool, None]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_recognised(lines: list[dict[str, Any]], name: str) -> None:
    _, guess, system = SYSTEMS[name]
    (event,) = syns(lines, name)
    assert (event["os_guess"], event.get("os")) == (guess, system)
    assert "tool" not in event


@pytest.mark.parametrize("name", NO_SYSTEMS)
def test_a_near_miss_is_no_system(lines: list[dict[str, Any]], name: str) -> None:
    (event,) = syns(lines, name)
    assert event["os_guess"] == "unknown"
    assert "os" not in event


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_recognised(lines: list[dict[str, Any]], name: str) -> None:
    (event,) = fields(lines, "tcp_handshake", client_of(name))
    assert event.get("server_os") == SERVERS[name][2]


@pytest.mark.parametrize("name", SCANS)
def test_a_connect_scan_is_recognised(lines: list[dict[str, Any]], name: str) -> None:
    touches, evidence = SCANS[name]
    events = fields(lines, "tcp_flow_timing", scanner(name))
    assert [one["dst_port"] for one in events] == list(touches.ports)
    for one in events:
        assert (one.get("tool"), one.get("tool_evidence")) == ("nmap", evidence)


@pytest.mark.parametrize("name", NO_SCANS)
def test_a_near_miss_is_no_connect_scan(lines: list[dict[str, Any]], name: str) -> None:
    events = fields(lines, "tcp_flow_timing", scanner(name))
    assert {one["dst_port"] for one in events} == set(NO_SCANS[name].ports)
    for one in events:
        assert "tool" not in one


def test_a_signature_file_may_name_a_tool(tmp_path: Path) -> None:
    """The lines have the syslog format."""
    signatures = tmp_path / "own.fp"
    signatures.write_text(
        "classes = unix\n[tcp:request]\nlabel = s:!:Probe:fast\nsys = @unix\n"
        "sig = *:64:0:*:777,0:mss::0\n"
    )
    probe = Syn(options=MSS, window=777, ttl=60)
    frames = []
    for at, made in enumerate((probe, replace(probe, window=778), MIRAI)):
        data = made.frame(f"10.9.9.{at}")
        frames.append(Frame(START_NS + at * SECOND, 1, data, len(data)))
    path = tmp_path / "probe.pcap"
    path.write_bytes(pcap(frames))
    options = ("--p0f-db", str(signatures), "--scan-targets", "0")
    known, miss, mirai, _ = replay(path, *options)
    assert ' tool="probe" tool_evidence="signature Probe fast" ' in known
    assert " tool" not in miss
    assert (
        ' tool="mirai" tool_evidence="sequence number is the destination address; no options" '
        in mirai
    )
