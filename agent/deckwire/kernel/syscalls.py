"""The system calls bpf(2) and perf_event_open(2): their numbers, and functions that call them.

The numbers are those of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl) and of <linux/bpf.h>.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum

SYS_PERF_EVENT_OPEN = 298
SYS_BPF = 321

Buffer = ctypes.Array[ctypes.c_char]
"""Memory whose address the kernel is given; it must outlive the call."""


class Command(IntEnum):
    """enum bpf_cmd."""

    MAP_CREATE = 0
    MAP_LOOKUP = 1
    MAP_UPDATE = 2
    MAP_DELETE = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    PROG_TEST_RUN = 10
    OBJ_GET_INFO_BY_FD = 15
    BTF_LOAD = 18
    MAP_FREEZE = 22
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28


_libc = ctypes.CDLL(None, use_errno=True)
# Looked up by index, each function object is a new one with its own argument types.
_bpf = _libc["syscall"]
_bpf.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_bpf.restype = ctypes.c_long
_perf_event_open = _libc["syscall"]
_perf_event_open.argtypes = (
    ctypes.c_long,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_ulong,
)
_perf_event_open.restype = ctypes.c_long


def failure(number: int, what: str) -> OSError:
    """The OSError for errno `number` whose text says what failed."""
    return OSError(number, f"{what}: {os.strerror(number)}")


def call_bpf(command: int, attr: Buffer) -> int:
    """Calls bpf(2) and returns its result, or minus errno. For calls that normally fail at times.

    `attr` is one member of union bpf_attr. The kernel accepts a longer one than it knows if the
    rest is zero.
    """
    result: int = _bpf(SYS_BPF, command, attr, len(attr))
    return result if result >= 0 else -ctypes.get_errno()


def bpf(command: int, attr: Buffer, what: str) -> int:
    """Calls bpf(2) and returns its result. `what` stands in front of an error's text.

    Raises:
        OSError: the kernel refused.
    """
    result = call_bpf(command, attr)
    if result < 0:
        raise failure(-result, what)
    return result


def perf_event_open(attr: Buffer, cpu: int, flags: int) -> int:
    """Opens a perf event for every process on one CPU: its file descriptor.

    Raises:
        OSError: the kernel refused.
    """
    result: int = _perf_event_open(SYS_PERF_EVENT_OPEN, attr, -1, cpu, -1, flags)
    if result < 0:
        raise failure(ctypes.get_errno(), f"perf_event_open on CPU {cpu}")
    return result
