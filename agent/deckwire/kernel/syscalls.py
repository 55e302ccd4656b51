"""bpf(2), perf_event_open(2) and setns(2): numbers and calls, nothing about what they are for.

The numbers are those of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl) and of <linux/bpf.h>.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum

SYS_PERF_EVENT_OPEN = 298
SYS_BPF = 321
CLONE_NEWNET = 0x4000_0000

Buffer = ctypes.Array[ctypes.c_char]
"""Memory whose address the kernel is given; it must outlive the call."""


class Command(IntEnum):
    """enum bpf_cmd."""

    MAP_LOOKUP = 1
    MAP_UPDATE = 2
    MAP_DELETE = 3
    MAP_GET_NEXT_KEY = 4
    PROG_TEST_RUN = 10
    OBJ_GET_INFO_BY_FD = 15
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28


_libc = ctypes.CDLL(None, use_errno=True)
# Each look-up by index gives a function object of its own, with its own argument types.
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
_setns = _libc["setns"]
_setns.argtypes = (ctypes.c_int, ctypes.c_int)


def failure(number: int, what: str) -> OSError:
    """The OSError for errno `number` whose text says what failed."""
    return OSError(number, f"{what}: {os.strerror(number)}")


def call_bpf(command: int, attr: Buffer) -> int:
    """bpf(2) without an exception: its result, or minus errno. For calls whose failing is normal.

    `attr` is one member of union bpf_attr; the kernel takes what it knows as long as the rest
    is zero.
    """
    result: int = _bpf(SYS_BPF, command, attr, len(attr))
    return result if result >= 0 else -ctypes.get_errno()


def bpf(command: int, attr: Buffer, what: str) -> int:
    """bpf(2). `what` stands in front of the error's text.

    Raises:
        OSError: the kernel refused.
    """
    result = call_bpf(command, attr)
    if result < 0:
        raise failure(-result, what)
    return result


def perf_event_open(attr: Buffer, cpu: int, flags: int) -> int:
    """perf_event_open(2) for every process on one CPU: the event's file descriptor.

    Raises:
        OSError: the kernel refused.
    """
    result: int = _perf_event_open(SYS_PERF_EVENT_OPEN, attr, -1, cpu, -1, flags)
    if result < 0:
        raise failure(ctypes.get_errno(), f"perf_event_open on CPU {cpu}")
    return result


def enter_network_namespace(fd: int) -> None:
    """setns(2): the calling thread, with all it does next, into the namespace behind `fd`.

    Raises:
        OSError: not a network namespace, or CAP_SYS_ADMIN is missing.
    """
    if _setns(fd, CLONE_NEWNET):
        raise failure(ctypes.get_errno(), "setns")
