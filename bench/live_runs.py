"""The time of a program run in live traffic, as the kernel accounts it.

Test runs find everything in the CPU caches. Between two frames of real traffic the network stack
uses the caches too. The accounting (BPF_ENABLE_STATS) reads the clock twice a run. The no-op
program pays for that as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import pack

from bench.bulk import transfer
from bench.figures import Line, Spread, ratio
from bench.observers import DECKWIRE, NOOP, watching
from deckwire.kernel.syscalls import bpf
from deckwire.lab import Lab

_ENABLE_STATS, _RUN_TIME = 32, 0
"""enum bpf_cmd, enum bpf_stats_type."""
_ACCOUNT = re.compile(r"^run_time_ns:\s+(\d+)\nrun_cnt:\s+(\d+)$", re.MULTILINE)


def measure(lab: Lab, rounds: int, seconds: int, gigabytes: float) -> list[Line]:
    """Measure over MTU-size frames of one connection, unpaced and paced.

    The caller turns the lab's offloads off before.
    """
    size = str(round(gigabytes * 1e9))
    return [
        _line(lab, rounds, "unpaced", ["-t", str(seconds)]),
        _line(lab, rounds, "at 1 Gbit/s", ["-n", size, "-b", "1G"]),
    ]


def _line(lab: Lab, rounds: int, pace: str, options: Sequence[str]) -> Line:
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        for name in (NOOP, DECKWIRE) if number % 2 else (DECKWIRE, NOOP):
            with watching(lab, name) as agent, accounting():
                transfer(lab, lab.deckies[0], options)
                found[name].append(mean_ns(agent.pid if agent else os.getpid()))
    added = Spread.of(ours - noop for ours, noop in zip(found[DECKWIRE], found[NOOP], strict=True))
    base = Spread.of(found[NOOP]).median
    return Line(
        "programs in live traffic",
        f"a run in live traffic, MTU-size frames {pace}",
        added,
        "ns",
        f"no-op TCX {base:.0f} ns",
        base,
        ratio(base + added.median, base),
    )


@contextlib.contextmanager
def accounting() -> Iterator[None]:
    """Let the kernel account the run time of all programs."""
    attr = ctypes.create_string_buffer(pack("=I", _RUN_TIME))
    fd = bpf(_ENABLE_STATS, attr, "the account of BPF programs' run time")
    try:
        yield
    finally:
        os.close(fd)


def mean_ns(pid: int) -> float:
    """Mean time of one run of the programs that a process holds."""
    time_ns = count = 0
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            for taken, runs in _ACCOUNT.findall(entry.read_text()):
                time_ns += int(taken)
                count += int(runs)
    return time_ns / count
