"""How much CPU time was used, and which CPU a process may use.

The use of the whole machine is all time that was not idle. With dynamic ticks (CONFIG_NO_HZ) the
kernel reads the clock when a CPU becomes idle and when it stops being idle, and leaves out
interrupts in between. The user, system and softirq times are only sampled at each tick, so they are
not used here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE, _IOWAIT = 4, 5
"""Words in the first line of /proc/stat."""

ALL = os.sched_getaffinity(0)
CLIENTS = {min(ALL)}
"""The CPU of load generators and clients."""
SERVERS = {max(ALL)}
"""The CPU of servers: another one if there are two. The scheduler places agents and sniffers."""


def busy_seconds() -> float:
    """Busy time of all CPUs together since a fixed moment, exact to 10 ms a CPU."""
    words = _stat()
    elapsed = time.monotonic() * _online()
    return elapsed - (words[_IDLE] + words[_IOWAIT]) / _TICKS


def process_seconds(pid: int) -> float:
    """CPU time of a process with all its threads, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def pin(pid: int, cpus: set[int]) -> None:
    """Let the process run on these CPUs only. 0 is the calling thread."""
    os.sched_setaffinity(pid, cpus)


def _online() -> int:
    return os.sysconf("SC_NPROCESSORS_ONLN")


def _stat() -> list[int]:
    first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return [0, *map(int, first[1:])]
