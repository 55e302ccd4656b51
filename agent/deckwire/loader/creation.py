"""Makes the maps of a kernel object and loads its programs, by bpf(2) alone."""

from __future__ import annotations

import ctypes
import os
from errno import EAGAIN
from struct import Struct
from threading import Thread

from deckwire.kernel import cpus
from deckwire.kernel.maps import Map, MapShape
from deckwire.kernel.programs import Program
from deckwire.kernel.syscalls import Command, bpf, call_bpf, failure
from deckwire.loader import locks
from deckwire.loader.kernel_object import INSTRUCTION_BYTES, KernelObject, ProgramCode

_NAME_BYTES = 15
"""BPF_OBJ_NAME_LEN without the terminating zero."""
_MAP = Struct("=IIIIIII16sIIII")
"""map_type, key_size, value_size, max_entries, map_flags, inner_map_fd, numa_node, map_name,
map_ifindex, btf_fd, btf_key_type_id, btf_value_type_id."""
_PROGRAM = Struct("=IIQQIIQII16s")
"""prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags,
prog_name."""
_ATTEMPTS = 5
"""The verifier ends with EAGAIN when a signal is pending."""


class RefusedError(Exception):
    """The kernel refused a map or a program: which one."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"the kernel refused {what}")
        self.number = number
        """The errno."""


def create(made: KernelObject) -> tuple[dict[str, Map], dict[str, Program]]:
    """Makes everything that the object has.

    Returns:
        Maps and programs by their whole names, which the kernel cuts at 15 bytes.

    Raises:
        RefusedError: the kernel refused something. Nothing stays.
    """
    maps: dict[str, Map] = {}
    programs: dict[str, Program] = {}
    try:
        for shape in made.maps:
            maps[shape.name] = create_map(shape)
        programs |= _load_all(made, [table.fd for table in maps.values()])
    except BaseException:
        for table in maps.values():
            table.close()
        raise
    return maps, programs


def create_map(shape: MapShape) -> Map:
    """Makes a map, also one with a lock.

    Raises:
        RefusedError: the kernel refused it.
    """
    try:
        if shape.name not in locks.LOCKED:
            return _create_map(shape)
        types, key, value = locks.describe(shape)
        try:
            return _create_map(shape, types, key, value)
        finally:
            os.close(types)
    except OSError as error:
        raise RefusedError(f"the map {shape.name}", error.errno or 0) from error


def _create_map(shape: MapShape, types: int = 0, key: int = 0, value: int = 0) -> Map:
    attr = ctypes.create_string_buffer(_MAP.size)
    _MAP.pack_into(
        attr,
        0,
        shape.kind,
        shape.key_size,
        shape.value_size,
        shape.max_entries or cpus.possible(),
        shape.flags,
        0,
        0,
        _short(shape.name),
        *(0, types, key, value),
    )
    return Map(bpf(Command.MAP_CREATE, attr, shape.name))


def _load_all(made: KernelObject, fds: list[int]) -> dict[str, Program]:
    """Each program in a thread of its own, because the verifier takes most of the time.

    Raises:
        RefusedError: the first that was refused. None stays loaded.
    """
    loaded: dict[str, Program] = {}
    refused: dict[str, int] = {}

    def load(code: ProgramCode) -> None:
        try:
            loaded[code.name] = _load(code, made.terms, fds)
        except OSError as error:
            refused[code.name] = error.errno or 0

    threads = [Thread(target=load, args=(code,)) for code in made.programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for code in made.programs:
        if code.name in refused:
            for program in loaded.values():
                program.close()
            raise RefusedError(f"the program {code.name}", refused[code.name])
    return {code.name: loaded[code.name] for code in made.programs}


def _load(code: ProgramCode, terms: str, fds: list[int]) -> Program:
    data = code.with_descriptors(fds)
    instructions = ctypes.create_string_buffer(data, len(data))
    license_text = ctypes.create_string_buffer(terms.encode())
    attr = ctypes.create_string_buffer(_PROGRAM.size)
    _PROGRAM.pack_into(
        attr,
        0,
        code.kind,
        len(data) // INSTRUCTION_BYTES,
        ctypes.addressof(instructions),
        ctypes.addressof(license_text),
        0,
        0,
        0,
        0,
        0,
        _short(code.name),
    )
    for _ in range(_ATTEMPTS):
        result = call_bpf(Command.PROG_LOAD, attr)
        if result != -EAGAIN:
            break
    if result < 0:
        raise failure(-result, code.name)
    return Program(code.name, result)


def _short(name: str) -> bytes:
    return name.encode()[:_NAME_BYTES]
