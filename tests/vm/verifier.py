"""Print the verifier's counts of each program on the running kernel, as rows of a table.

Usage: python tests/vm/verifier.py >> rows. Needs root. Prints for each program: kernel, BCC,
program, instructions of its bytecode, instructions that the verifier processed, and the time of the
verifier in ms.

The numbers come from the log that BPF_PROG_LOAD writes at log level 4 (BPF_LOG_STATS in
include/linux/bpf_verifier.h). Every kernel from 5.10 on writes it. verified_insns of bpf_prog_info
exists only from 5.16 on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
from struct import Struct

from bcc import __version__ as bcc_version

from deckwire.kernel.loading import LoadRequest
from deckwire.kernel.names import XDP_PROGRAM
from deckwire.kernel.syscalls import bpf
from deckwire.loader.module import compile_module, load_programs

PROG_LOAD = 5
LOG_STATS = 4
LOG_BYTES = 65_536
INSTRUCTION_BYTES = 8
LOAD = Struct("IIQQIIQI")
"""prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version."""


def verify(bytecode: bytes, kind: int) -> tuple[int, float]:
    """Load a program once more, and return the instructions processed and the time in ms.

    `kind` is its enum bpf_prog_type.
    """
    code = ctypes.create_string_buffer(bytecode, len(bytecode))
    terms = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(LOG_BYTES)
    attr = ctypes.create_string_buffer(LOAD.size)
    LOAD.pack_into(
        attr,
        0,
        kind,
        len(bytecode) // INSTRUCTION_BYTES,
        ctypes.addressof(code),
        ctypes.addressof(terms),
        LOG_STATS,
        LOG_BYTES,
        ctypes.addressof(log),
        0,
    )
    os.close(bpf(PROG_LOAD, attr, "loading with statistics"))
    text = log.value.decode()
    processed = re.search(r"^processed (\d+) insns", text, re.MULTILINE)
    spent = re.search(r"^verification time (\d+) usec", text, re.MULTILINE)
    if processed is None or spent is None:
        raise SystemExit(f"no statistics in the verifier's log: {text!r}")
    return int(processed[1]), int(spent[1]) / 1000


def main() -> None:
    with contextlib.suppress(ValueError):  # only 5.10 counts maps against this limit
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    request = LoadRequest(xdp="generic")
    kinds = dict.fromkeys((*request.programs, *request.jumps), "SCHED_CLS")
    module = compile_module(request.body())
    for name, kind in (kinds | {XDP_PROGRAM: "XDP"}).items():
        load_programs(module, {name: kind})  # this creates the maps
        print_row(name, module.dump_func(name), getattr(module, kind))


def print_row(name: str, bytecode: bytes, kind: int) -> None:
    """Print the row of one program."""
    processed, milliseconds = verify(bytecode, kind)
    print(
        f"| {os.uname().release} | {bcc_version} | `{name}` "
        f"| {len(bytecode) // INSTRUCTION_BYTES:,} | {processed:,} | {milliseconds:.0f} |"
    )


if __name__ == "__main__":
    main()
