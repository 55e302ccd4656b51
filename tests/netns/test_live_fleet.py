"""Ten correct deckies under mixed attacks: whatever is reported as their giveaway is wrong."""

from __future__ import annotations

import json
import random
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from deckwire.captures import CaptureFile, Frame
from deckwire.config import Settings
from deckwire.deckies import Decky, parse_address
from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.network import CLIENT_INTERFACE
from deckwire.lab.servers import http_server, tls_server
from tests.support import bpf_frames as wire
from tests.support.conversation import SECOND
from tests.support.emitted import of
from tests.support.live_wire import Tap
from tests.support.replaying import ReplayLab
from tests.support.watching import LARGE_RINGS, assert_nothing_lost, fetch, fetch_plain

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        None in map(shutil.which, ("nmap", "tcpdump")), reason="not installed: nmap or tcpdump"
    ),
]

FLEET = tuple(f"right-{number}" for number in range(10))
SERVICES = ("http", "https")
GIVEAWAYS = ("decky_mismatch", "decky_initiated")
LASTS_NS = 120 * SECOND
SPOOFED = 1_000
NMAP = ("nmap", "-n", "-Pn", "-T4", "--max-retries", "1", "-e", CLIENT_INTERFACE)
PORTS = ("-p", "22,80,81,443,8080")
SCANS: tuple[Sequence[str], ...] = (
    (*NMAP, "-sS", *PORTS),
    (*NMAP, "-sF", *PORTS),
    (*NMAP, "-sA", *PORTS),
    ("nmap", "-n", "-Pn", "-T4", "-sT", *PORTS),
    (*NMAP, "-sU", "-p", "53,161"),
    (*NMAP, "-sO", "-p", "1,47"),
    ("nmap", "-n", "-sn", "-PE", "-PP", "--disable-arp-ping"),
    ("arp-scan", "-q", "-I", CLIENT_INTERFACE, "-r", "1"),
    ("fping", "-q", "-r", "0"),
)
"""Of the whole fleet."""
DETECTION = (*NMAP, "-O", "--max-os-tries", "1", *PORTS)
"""nmap's probes of a system, some of which no stack sends. It takes longer: of one decky."""


def claims(lab: Lab, windows: str = "") -> list[Decky]:
    """What the deckies play: Linux with a web server, but for one."""
    return [
        Decky(
            decky.name,
            parse_address(address),
            os="Windows 10" if decky.name == windows else "linux",
            services=SERVICES,
        )
        for decky in lab.deckies
        for address in (*decky.ipv4, *decky.ipv6)
    ]


def deckies_file(lab: Lab) -> Path:
    path = lab.directory / "played.json"
    path.write_text(
        json.dumps(
            {
                str(one.address): {"name": one.name, "os": one.os, "services": list(one.services)}
                for one in claims(lab)
            }
        )
    )
    return path


def attack(lab: Lab) -> None:
    """Visits from several addresses, scans, and a flood of SYNs from spoofed sources."""
    for decky in lab.deckies:
        for number, v4 in enumerate(lab.client.ipv4):
            fetch_plain(lab.client, decky.v4, source=v4)
            fetch(lab.client, decky.v6, source=lab.client.ipv6[number])
    for scan in SCANS:
        if shutil.which(scan[0]) is not None:
            lab.run(lab.client, [*scan, *(decky.v4 for decky in lab.deckies)])
    spoof(lab)
    lab.run(lab.client, [*DETECTION, lab.deckies[0].v4])
    for decky in lab.deckies:
        with lab.client.connect(decky.v4, 80) as garbage, suppress(OSError):
            garbage.sendall(random.Random(1).randbytes(300))


def spoof(lab: Lab) -> None:
    """SYNs to an open port, each from an address that no host has."""
    decky = lab.deckies[0]
    with lab.client.inside():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with raw:
        raw.bind((CLIENT_INTERFACE, 0))
        own = raw.getsockname()[4]
        (link,) = json.loads(lab.run(decky, ["ip", "-j", "link", "show", decky.interface]).stdout)
        macs = bytes.fromhex(link["address"].replace(":", "")) + own
        for number in range(SPOOFED):
            source = f"198.18.{100 + number // 250}.{1 + number % 250}"
            syn = wire.tcp(dport=80, seq=number * 99_991, options=wire.LINUX_OPTIONS)
            frame = wire.summed(wire.ethernet(wire.ipv4(syn, source, decky.v4)))
            raw.send(macs + frame[12:])


def stretched(path: Path) -> Iterator[Frame]:
    """The frames of a capture, as if it had lasted for LASTS_NS."""
    with CaptureFile(path) as capture:
        frames = list(capture)
    begin_ns, end_ns = frames[0].time_ns, frames[-1].time_ns
    for frame in frames:
        after_ns = (frame.time_ns - begin_ns) * LASTS_NS // (end_ns - begin_ns)
        yield replace(frame, time_ns=begin_ns + after_ns)


def test_a_correct_fleet_gives_nothing_away_under_mixed_attacks(tmp_path: Path) -> None:
    """Live for as long as the attacks take, then the same frames over two minutes.

    The latter are on the clock of the capture, which takes seconds. All intervals are longer there,
    those of TCP timestamps too: their clocks tick slower, at a frequency that systems have. So what
    is judged over 30 s is judged, and the attacks are those of the live part.
    """
    path = tmp_path / "frames.pcap"
    with Lab(FLEET, clients=3) as lab:
        certificate = make_certificate(lab.directory, "www.example.test", key="ec")
        for decky in lab.deckies:
            http_server(lab, decky)
            tls_server(lab, decky, certificate)
        agent = AgentProcess(lab, options=[*LARGE_RINGS, "--deckies", deckies_file(lab)])
        with Tap(lab, everything=True) as tap:
            attack(lab)
        shutil.copy(tap.path, path)
        assert agent.stop() == 0
        assert_nothing_lost(agent)
    assert [event for event in agent.events if event["event"] in GIVEAWAYS] == []
    scanners = {event["fields"]["src_ip"] for event in agent.find("scan_summary")}
    assert {*lab.client.ipv4, *lab.client.ipv6} <= scanners
    with ReplayLab() as replaying:
        replaying.scans = True
        for windows, expected in (("", set()), (FLEET[3], {(FLEET[3], "decky_mismatch")})):
            events = replaying.frames(stretched(path), claims(lab, windows), Settings())
            assert len({one["src_ip"] for one in of(events, "scan_summary")}) > SPOOFED
            found = {(event.host, event.name) for event in events if event.name in GIVEAWAYS}
            assert found == expected
