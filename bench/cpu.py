"""How much CPU time was used, and which CPU a process may use.

The machine's own use is whatever was not idle. With dynamic ticks (CONFIG_NO_HZ) the kernel takes
the idle time of a CPU from the clock at each entry and exit, interrupts in between excluded; times
of user, system and softirq are mere samples of the tick and are not used here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE, _IOWAIT, _STEAL = 4, 5, 8
"""Words in the first line of /proc/stat."""

ALL = os.sched_getaffinity(0)
CLIENTS = {min(ALL)}
"""The CPU of load generators and clients."""
SERVERS = {max(ALL)}
"""The CPU of servers: another one where there are two. Agents and sniffers go where the scheduler
sends them."""


def busy_seconds() -> float:
    """CPU time of all CPUs together that was not idle, since some moment; within 10 ms a CPU."""
    words = _stat()
    elapsed = time.monotonic() * _online()
    return elapsed - (words[_IDLE] + words[_IOWAIT]) / _TICKS


def stolen_seconds() -> float:
    """CPU time that the hypervisor gave to others."""
    return _stat()[_STEAL] / _TICKS


def process_seconds(pid: int) -> float:
    """CPU time of a process with all its threads, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def pin(pid: int, cpus: set[int]) -> None:
    """The process (0: the calling thread) runs on these CPUs alone."""
    os.sched_setaffinity(pid, cpus)


def _online() -> int:
    return os.sysconf("SC_NPROCESSORS_ONLN")


def _stat() -> list[int]:
    first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return [0, *map(int, first[1:])]
