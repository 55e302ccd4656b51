"""What is attached where, asked of the kernel without the agent's help."""

from __future__ import annotations

import ctypes
import os
import socket
from errno import EINVAL
from struct import Struct, unpack_from

from deckwire.kernel.programs import TCX_EGRESS, TCX_INGRESS
from deckwire.kernel.syscalls import bpf, call_bpf
from deckwire.lab import Lab, Node
from deckwire.lab.network import PARENT

HAS_TCX = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 6)

_PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _PROG_QUERY = 13, 15, 16
_QUERY = Struct("IIIIQIIQQQQ")
_MOST = 64
HOOKS = {"ingress": TCX_INGRESS, "egress": TCX_EGRESS}


def tcx(node: Node, interface: str = PARENT) -> dict[str, list[int]]:
    """Ids of the programs that TCX runs on the interface, by hook and in their order."""
    found: dict[str, list[int]] = {"ingress": [], "egress": []}
    with node.inside():
        for hook, attach_type in HOOKS.items() if HAS_TCX else ():
            ids = (ctypes.c_uint32 * _MOST)()
            attr = ctypes.create_string_buffer(_QUERY.size)
            target, address = socket.if_nametoindex(interface), ctypes.addressof(ids)
            _QUERY.pack_into(attr, 0, target, attach_type, 0, 0, address, _MOST, 0, 0, 0, 0, 0)
            bpf(_PROG_QUERY, attr, "query")
            found[hook] = list(ids[: _QUERY.unpack(attr)[5]])
    return found


def filters(lab: Lab, interface: str = PARENT) -> dict[str, str]:
    """The clsact filters of the interface, by hook, as tc shows them."""
    return {
        hook: lab.run(lab.host, ["tc", "filter", "show", "dev", interface, hook]).stdout
        for hook in HOOKS
    }


def is_loaded(program: int) -> bool:
    """Whether the kernel still has the program of this id."""
    attr = ctypes.create_string_buffer(Struct("III").pack(program, 0, 0), 12)
    fd = call_bpf(_PROG_GET_FD_BY_ID, attr)
    if fd < 0:
        assert fd != -EINVAL
        return False
    os.close(fd)
    return True


def program_id(fd: int) -> int:
    """The id of the program behind a file descriptor."""
    info = ctypes.create_string_buffer(232)
    attr = ctypes.create_string_buffer(
        Struct("IIQ").pack(fd, len(info), ctypes.addressof(info)), Struct("IIQ").size
    )
    bpf(_OBJ_GET_INFO_BY_FD, attr, "program info")
    return int(unpack_from("I", info, 4)[0])
