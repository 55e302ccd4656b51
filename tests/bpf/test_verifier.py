"""How many instructions the kernel's verifier follows: each program leaves it room."""

from __future__ import annotations

import ctypes
import os
from struct import Struct

import pytest

from deckwire.kernel.loading import Loaded
from deckwire.kernel.names import JUMPS, JUMPS_MAP
from deckwire.kernel.syscalls import Command, bpf
from tests.support.hooks import program_by_id

pytestmark = pytest.mark.root

LIMIT = 1_000_000
"""Instructions (BPF_COMPLEXITY_LIMIT_INSNS)."""

_INFO = Struct("216xI12x")
"""struct bpf_prog_info of Linux 5.16 and newer, with its verified_insns."""
_ATTR = Struct("IIQ")
_U32 = Struct("I")


def followed(fd: int) -> int:
    """The instructions of a program that were followed; 0 if the kernel does not say."""
    info = ctypes.create_string_buffer(_INFO.size)
    attr = ctypes.create_string_buffer(_ATTR.size)
    _ATTR.pack_into(attr, 0, fd, _INFO.size, ctypes.addressof(info))
    bpf(Command.OBJ_GET_INFO_BY_FD, attr, "program info")
    (count,) = _INFO.unpack(info)
    return int(count)


def test_each_program_leaves_the_verifier_room(replaying: Loaded) -> None:
    """Each kernel and each compiler follows other paths, up to twice as many."""
    counts = {name: followed(program.fd) for name, program in replaying.programs.items()}
    for slot, name in enumerate(JUMPS):
        number = replaying.maps[JUMPS_MAP].lookup(_U32.pack(slot))
        assert number is not None
        fd = program_by_id(*_U32.unpack(number))
        counts[name] = followed(fd)
        os.close(fd)
    if not any(counts.values()):
        pytest.skip("needs Linux 5.16: verified_insns")
    assert {name: count for name, count in counts.items() if count > LIMIT // 4} == {}
