"""Maps whose values begin with a lock (bpf_spin_lock).

The kernel allows one only in a map whose types it is given (BTF). BCC leaves types out here,
and a kept object has none either. So the few types that the kernel asks for are written here.
"""

from __future__ import annotations

import ctypes
from struct import Struct, pack

from deckwire.kernel.maps import MapShape
from deckwire.kernel.syscalls import Command, bpf

LOCKED = ("half_open_locks",)
"""The maps with a lock."""

_KEY, _VALUE = 1, 5
"""Numbers of types in _types()."""
_INT, _ARRAY, _STRUCT = 1, 3, 4
"""Kinds of types (<linux/btf.h>)."""
_HEADER = Struct("=HBBIIIII")
"""magic, version, flags, hdr_len, type_off, type_len, str_off, str_len of struct btf_header."""
_MAGIC = 0xEB9F
_LOCK_BYTES = 4
_LOAD = Struct("=QQIII")
"""btf, btf_log_buf, btf_size, btf_log_size, btf_log_level of union bpf_attr."""


def describe(shape: MapShape) -> tuple[int, int, int]:
    """The types of a map with a lock: a descriptor, and the numbers of its key and value.

    The caller closes the descriptor once the map is made.

    Raises:
        OSError: the kernel refused them.
    """
    data = _types(shape)
    buffer = ctypes.create_string_buffer(data, len(data))
    attr = ctypes.create_string_buffer(
        _LOAD.pack(ctypes.addressof(buffer), 0, len(data), 0, 0), _LOAD.size
    )
    return bpf(Command.BTF_LOAD, attr, f"types of the map {shape.name}"), _KEY, _VALUE


def _types(shape: MapShape) -> bytes:
    """``unsigned int``, ``struct bpf_spin_lock``, and a struct of a lock and bytes."""
    names = bytearray(b"\0")

    def name(text: str) -> int:
        names.extend(text.encode() + b"\0")
        return len(names) - 1 - len(text)

    rest = shape.value_size - _LOCK_BYTES
    types = b"".join(
        (
            _type(name("unsigned int"), _INT, 0, 4) + pack("=I", 32),
            _type(name("bpf_spin_lock"), _STRUCT, 1, _LOCK_BYTES) + _member(name("val"), 1, 0),
            _type(name("unsigned char"), _INT, 0, 1) + pack("=I", 8),
            _type(0, _ARRAY, 0, 0) + pack("=III", 3, 1, rest),
            _type(name(shape.name), _STRUCT, 2, shape.value_size)
            + _member(name("lock"), 2, 0)
            + _member(name("rest"), 4, 8 * _LOCK_BYTES),
        )
    )
    header = _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, 0, len(types), len(types), len(names))
    return header + types + bytes(names)


def _type(name: int, kind: int, members: int, size: int) -> bytes:
    """struct btf_type."""
    return pack("=III", name, kind << 24 | members, size)


def _member(name: int, kind: int, bits: int) -> bytes:
    """struct btf_member."""
    return pack("=III", name, kind, bits)
