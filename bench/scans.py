"""How much memory the scans take at their bounds: `python -m bench.scans`."""

from __future__ import annotations

import gc
import time
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path

from deckwire.abi.sources import ProbeKind, Source, Target
from deckwire.limits import (
    SCAN_AUTHORS,
    SCAN_RESTS,
    SCAN_STARTS,
    SCAN_TARGETS_ALL,
    SCANS,
    SCANS_PROVEN,
    SCANS_SAVED,
)
from deckwire.scans.author import Author
from deckwire.scans.memory import dump
from deckwire.scans.tracker import Tracker
from deckwire.tcp.addresses import MAPPED_PREFIX

_MB = 1 << 20
_DECKIES = 1_000


def packed(number: int) -> bytes:
    return MAPPED_PREFIX + IPv4Address(number).packed


def record(number: int, targets: int, *, proven: bool, first_ns: int = 1) -> Source:
    touched = tuple(
        Target(packed(0xC0000200 + (number + n) % _DECKIES), 6, n, 1, 0, first_ns)
        for n in range(targets)
    )
    probes = {ProbeKind.SYN: 2 * targets, ProbeKind.ACK: 1, ProbeKind.ICMP_ECHO: 1}
    mac = bytes(2) + packed(number)[-4:]
    return Source(packed(number), mac, first_ns, first_ns, probes, proven, touched, 0)


def resident() -> float:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1_024


def main() -> None:
    before = resident()
    tracker = Tracker(5, 900_000_000_000, lambda time_ns: time_ns, Counter())
    # Scans that have ended first, because their counts are kept too.
    for number in range(SCAN_RESTS):
        tracker.take(record(number, 1, proven=False), 1)
    for _ in tracker.due(2, all_of_them=True):
        pass
    many = SCANS + SCANS_PROVEN
    each = (SCAN_TARGETS_ALL - SCAN_STARTS) // many
    started = time.monotonic()
    for number in range(SCAN_STARTS):
        tracker.take(record(number, 1, proven=False, first_ns=3), 3)
    for number in range(many):
        tracker.take(record(1 << 24 | number, each, proven=number % 2 == 0, first_ns=3), 3)
    took = time.monotonic() - started
    for number in range(SCAN_AUTHORS):
        tracker.note(packed(number), Author("nmap", f"evidence {number}", "Linux", f"{number}"))
    print(f"scans {len(tracker)}, targets {tracker.kept_targets}")
    print(f"memory {resident() - before:.1f} MB")
    print(f"time {1e6 * took / len(tracker):.1f} us a source")
    started = time.monotonic()
    content = dump(tracker.scans(), lambda time_ns: time_ns)
    took = time.monotonic() - started
    print(
        f"file {len(content) / _MB:.1f} MB of {SCANS_SAVED} scans, written in {1e3 * took:.0f} ms"
    )


if __name__ == "__main__":
    main()
