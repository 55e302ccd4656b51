"""Maps whose values begin with a lock, made by the real kernel."""

from __future__ import annotations

import ctypes
import os
from struct import Struct, unpack_from

import pytest

from deckwire.kernel.maps import ARRAY, MapShape
from deckwire.kernel.syscalls import Command, bpf
from deckwire.loader.creation import RefusedError, create_map
from deckwire.loader.locks import LOCKED, describe

pytestmark = pytest.mark.root

SHAPE = MapShape(LOCKED[0], ARRAY, 4, 128, 2, 0)
_INFO_BYTES = 80
_INFO_ATTR = Struct("IIQ")
_TYPES_AT = 64
"""btf_id, btf_key_type_id and btf_value_type_id of struct bpf_map_info."""


def types_of(fd: int) -> tuple[int, int, int]:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    attr = ctypes.create_string_buffer(_INFO_ATTR.pack(fd, _INFO_BYTES, ctypes.addressof(info)))
    bpf(Command.OBJ_GET_INFO_BY_FD, attr, "map info")
    btf, key, value = unpack_from("=III", info, _TYPES_AT)
    return btf, key, value


def test_a_map_with_a_lock_has_types() -> None:
    with create_map(SHAPE) as table, create_map(SHAPE._replace(name="other")) as other:
        btf, key, value = types_of(table.fd)
        assert btf
        assert (key, value) == (1, 5)
        assert types_of(other.fd) == (0, 0, 0)


def test_no_program_writes_the_lock_by_an_update() -> None:
    """The kernel leaves the lock alone, which it does only if it knows that there is one."""
    with create_map(SHAPE) as table:
        table.update(bytes(4), b"\xff" * 128)
        assert table.lookup(bytes(4)) == bytes(4) + b"\xff" * 124


def test_a_map_that_is_refused_is_named_and_leaves_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RefusedError, match="the map half_open"):
        create_map(SHAPE._replace(key_size=8))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_caller_owns_the_descriptor_of_the_types() -> None:
    types, _, _ = describe(SHAPE)
    assert os.readlink(f"/proc/self/fd/{types}") == "anon_inode:btf"
    os.close(types)
