"""Programs that are attached to an interface, read from the kernel without the agent's code."""

from __future__ import annotations

import ctypes
import os
import socket
from errno import EINVAL
from struct import Struct, unpack_from

from pyroute2 import IPRoute

from deckwire.kernel.programs import TCX_EGRESS, TCX_INGRESS
from deckwire.kernel.syscalls import bpf, call_bpf
from deckwire.lab import Lab, Node
from deckwire.lab.network import PARENT

HAS_TCX = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 6)

_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD = 0, 1, 5
_PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _PROG_QUERY, _LINK_CREATE = 13, 15, 16, 28
_MAP_ARRAY, _SCHED_CLS = 2, 3
_BEFORE, _AFTER = 1 << 3, 1 << 4
_CLSACT_INGRESS = 0xFFFF_FFF2
_INSTRUCTION = Struct("=BBhi")
_QUERY = Struct("IIIIQIIQQQQ")
_MOST = 64
HOOKS = {"ingress": TCX_INGRESS, "egress": TCX_EGRESS}


def tcx(node: Node, interface: str = PARENT) -> dict[str, list[int]]:
    """Ids of the programs that TCX runs on the interface, by hook, in the order of their runs."""
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


class Bystander:
    """A foreign program that counts the frames that it sees and passes them on."""

    def __init__(self) -> None:
        self._map = bpf(_MAP_CREATE, _attribute("IIII", _MAP_ARRAY, 4, 8, 1), "a map")
        code = b"".join(_INSTRUCTION.pack(*one) for one in _count(self._map))
        instructions = ctypes.create_string_buffer(code)
        licence = ctypes.create_string_buffer(b"GPL")
        self.fd = bpf(
            _PROG_LOAD,
            _attribute(
                *("IIQQ", _SCHED_CLS, len(code) // 8),
                *(ctypes.addressof(instructions), ctypes.addressof(licence)),
            ),
            "a program",
        )
        self.id = program_id(self.fd)
        self._links: list[int] = []

    def link(self, node: Node, hook: str, *, first: bool, interface: str = PARENT) -> None:
        """Attach by TCX, before or after all programs that are attached."""
        with node.inside():
            target = socket.if_nametoindex(interface)
            attr = _attribute(
                *("IIIIQQ", self.fd, target, HOOKS[hook], _BEFORE if first else _AFTER, 0, 0)
            )
            self._links.append(bpf(_LINK_CREATE, attr, "a link"))

    def filter(self, node: Node, priority: int, handle: int, interface: str = PARENT) -> None:
        """Attach as a clsact filter at ingress."""
        with node.inside(), IPRoute() as route:
            target = socket.if_nametoindex(interface)
            if not any(
                entry.get_attr("TCA_KIND") == "clsact" for entry in route.get_qdiscs(target)
            ):
                route.tc("add", "clsact", target)
            route.tc(
                *("add-filter", "bpf", target),
                handle=handle,
                parent=_CLSACT_INGRESS,
                prio=priority,
                protocol=3,
                fd=self.fd,
                name="bystander",
                direct_action=True,
            )

    @property
    def seen(self) -> int:
        """The number of frames that it has seen."""
        key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
        attr = _attribute("IIQQQ", self._map, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
        bpf(_MAP_LOOKUP, attr, "its count")
        return value.value

    def close(self) -> None:
        """Close the program, its links and its map. Filters stay attached."""
        for fd in (*self._links, self.fd, self._map):
            os.close(fd)


def _attribute(layout: str, *values: int) -> ctypes.Array[ctypes.c_char]:
    packed = Struct(layout).pack(*values)
    return ctypes.create_string_buffer(packed.ljust(64, b"\0"), 64)


def _count(map_fd: int) -> list[tuple[int, int, int, int]]:
    """Instructions as (opcode, registers, offset, immediate): count one, return TC_ACT_UNSPEC."""
    return [
        (0x62, 0x0A, -4, 0),  # *(u32 *)(r10 - 4) = 0
        (0xBF, 0xA2, 0, 0),  # r2 = r10
        (0x07, 0x02, 0, -4),  # r2 += -4
        (0x18, 0x11, 0, map_fd),  # r1 = the map
        (0x00, 0x00, 0, 0),
        (0x85, 0x00, 0, 1),  # r0 = bpf_map_lookup_elem(r1, r2)
        (0x15, 0x00, 2, 0),  # if r0 == 0 goto the end
        (0xB7, 0x01, 0, 1),  # r1 = 1
        (0xDB, 0x10, 0, 0),  # lock *(u64 *)r0 += r1
        (0xB7, 0x00, 0, -1),  # r0 = -1
        (0x95, 0x00, 0, 0),  # exit
    ]


def program_by_id(program: int) -> int:
    """A file descriptor of the program of this id, or a negative error number."""
    attr = ctypes.create_string_buffer(Struct("III").pack(program, 0, 0), 12)
    return call_bpf(_PROG_GET_FD_BY_ID, attr)


def is_loaded(program: int) -> bool:
    """Whether the kernel still has the program of this id."""
    fd = program_by_id(program)
    if fd < 0:
        assert fd != -EINVAL
        return False
    os.close(fd)
    return True


def program_id(fd: int) -> int:
    """The id of the program that a file descriptor refers to."""
    info = ctypes.create_string_buffer(232)
    attr = ctypes.create_string_buffer(
        Struct("IIQ").pack(fd, len(info), ctypes.addressof(info)), Struct("IIQ").size
    )
    bpf(_OBJ_GET_INFO_BY_FD, attr, "program info")
    return int(unpack_from("I", info, 4)[0])
