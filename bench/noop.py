"""Programs of a few instructions that pass every frame: the baseline of all figures."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from struct import Struct, pack

from deckwire.kernel.programs import TCX_EGRESS, TCX_INGRESS, Program
from deckwire.kernel.syscalls import bpf
from deckwire.lab import Lab
from deckwire.lab.network import PARENT

SCHED_CLS, XDP = 3, 6
"""enum bpf_prog_type."""

_PROG_LOAD = 5
"""enum bpf_cmd."""
_ATTR = Struct("=IIQQIIQII16s")
"""prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags,
prog_name of union bpf_attr."""
_INSTRUCTION = "=BBhi"
_MOVE_R0, _CALL, _EXIT = 0xB7, 0x85, 0x95
_KTIME_GET_NS = 5
"""enum bpf_func_id."""
_VERDICTS = {SCHED_CLS: -1, XDP: 2}
"""TC_ACT_UNSPEC and XDP_PASS."""


def load_noop(kind: int = SCHED_CLS) -> Program:
    """Load ``return TC_ACT_UNSPEC`` or ``return XDP_PASS``."""
    return _load(kind, "noop", b"")


def load_clock() -> Program:
    """Load a program that only reads the kernel's clock."""
    return _load(SCHED_CLS, "clock", pack(_INSTRUCTION, _CALL, 0, 0, _KTIME_GET_NS))


@contextlib.contextmanager
def attached(lab: Lab) -> Iterator[None]:
    """Attach a no-op program to both TCX hooks of the parent."""
    program = load_noop()
    with lab.host.inside():
        ifindex = socket.if_nametoindex(PARENT)
        links = [program.link(ifindex, hook) for hook in (TCX_INGRESS, TCX_EGRESS)]
    try:
        yield
    finally:
        for link in links:
            os.close(link)
        program.close()


def _load(kind: int, name: str, code: bytes) -> Program:
    code += pack(_INSTRUCTION, _MOVE_R0, 0, 0, _VERDICTS[kind])
    code += pack(_INSTRUCTION, _EXIT, 0, 0, 0)
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    attr = ctypes.create_string_buffer(_ATTR.size)
    _ATTR.pack_into(
        attr,
        0,
        *(kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence)),
        *(0, 0, 0, 0, 0, name.encode()),
    )
    return Program(name, bpf(_PROG_LOAD, attr, f"loading the program {name}"))
