"""What an operator plans with: memory by the number of deckies, bytes of a log by connections."""

from __future__ import annotations

import gzip
import time
from ipaddress import IPv4Address
from pathlib import Path

from bench.figures import Line, Spread, ratio
from bench.handshakes import serve_tls, shake_hands
from bench.observers import Agent
from deckwire.lab import Lab

SECTION = "sizes"
DECKIES = (10, 1_000, 10_000, 65_536)
PORTS = 1_000
"""Closed ports of a decky that are tried."""

_EVERYTHING = ("--dedup-ttl", "0", "--stats-interval", "0")
_FIRST = int(IPv4Address("10.0.0.1"))


def measure(lab: Lab, seconds: int) -> list[Line]:
    """Measure the memory at rest, and the lines of TLS connections made for `seconds`."""
    decky = lab.deckies[1]
    serve_tls(lab, decky)
    return [
        *_memory(lab),
        _lines(lab, "TLS 1.3 connection", seconds, ["-tls1_3"]),
        _lines(lab, "TLS 1.2 connection with its certificate", seconds, ["-tls1_2"]),
        _lines(lab, "SYN to a closed port", 0, []),
    ]


def _memory(lab: Lab) -> list[Line]:
    found: list[Line] = []
    for count in DECKIES:
        file = lab.directory / f"deckies-{count}"
        file.write_text("".join(f"{IPv4Address(_FIRST + n)} decky-{n}\n" for n in range(count)))
        agent = Agent(lab, ["--deckies", str(file)])
        resident, maps = agent.resident_bytes() / 1e6, agent.map_bytes() / 1e6
        agent.stop()
        found.append(
            Line(
                SECTION,
                f"resident memory with {count:,} deckies, ready after {agent.ready_seconds:.1f} s",
                Spread.of([resident]),
                "MB",
                f"kernel memory of its maps {maps:.1f} MB",
                maps,
                ratio(resident, maps),
            )
        )
    return found


def _lines(lab: Lab, what: str, seconds: int, options: list[str]) -> Line:
    """Bytes of the log for each of `what`, everything emitted."""
    decky = lab.deckies[1]
    file = lab.directory / f"log-{time.monotonic_ns()}"
    agent = Agent(lab, [*_EVERYTHING, "--output", f"file:{file}"])
    if seconds:
        made = shake_hands(lab, decky, seconds, options)
        complete = agent.wait_for(lambda counted: counted["tcp_flow_timing"] >= made)
    else:
        made = PORTS
        lab.run(lab.client, ["nmap", "-n", "-Pn", "-sS", "-p", f"20000-{19_999 + made}", decky.v4])
        complete = agent.wait_for(lambda counted: counted["tcp_syn_fingerprint"] >= made)
    agent.stop()
    text = _without_sums(file)
    lines = text.count(b"\n") / made
    return Line(
        SECTION,
        f"log of a {what}, {lines:.1f} lines",
        Spread.of([len(text) / made]),
        "bytes",
        f"compressed {len(gzip.compress(text)) / made:.0f} bytes",
        len(gzip.compress(text)) / made,
        ratio(len(text), len(gzip.compress(text))),
        note="" if complete else "not all of them were seen",
    )


def _without_sums(file: Path) -> bytes:
    lines = file.read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if b" - capture_stats [" not in line)
