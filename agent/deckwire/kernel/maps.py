"""BPF maps, read and written by bpf(2)."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator, Sequence
from errno import E2BIG, EINTR, EINVAL, ENOENT, ENOSPC
from struct import Struct
from types import TracebackType
from typing import NamedTuple, Self

from deckwire.kernel import cpus
from deckwire.kernel.syscalls import Buffer, Command, bpf, call_bpf, failure

UPDATE_ANY, UPDATE_NOEXIST, UPDATE_EXIST = 0, 1, 2
"""BPF_ANY, BPF_NOEXIST, BPF_EXIST: create or replace, create only, replace only."""

ARRAY, PERF_EVENT_ARRAY = 2, 4
"""Types of enum bpf_map_type."""
MMAPABLE = 1 << 10
"""BPF_F_MMAPABLE: the values of an array can be mapped into memory."""

PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH = 5, 6, 10
"""Types of enum bpf_map_type that have one value a CPU for each key."""

ENOTSUPP = 524
"""The kernel's own errno for an operation that a map type lacks. libc does not know it."""

BATCH = 1_024
"""Entries read at once in a sweep. A bucket of a hash that holds more doubles it."""
RESTARTS = 16
"""Times that one batch is read again because entries vanished meanwhile."""
_NO_BATCHES = (-EINVAL, -ENOTSUPP)
"""Results of a kernel or map type that has no such batch. EINVAL has other meanings too. Then the
calls one by one fail as well, and report it."""

_INFO = Struct("6I16s")
"""struct bpf_map_info up to its name: type, id, key and value size, max_entries, flags, name."""
_INFO_ATTR = Struct("IIQ")
"""bpf_fd, info_len, info."""
_ELEMENT = Struct("IxxxxQQQ")
"""map_fd, key, value or next key, flags."""
_BATCH_ATTR = Struct("QQQQIIQQ")
"""in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags."""
_BATCH_COUNT = Struct("32xI")
_FREEZE = Struct("I")


class MapShape(NamedTuple):
    """What a map was created with."""

    name: str
    kind: int
    """enum bpf_map_type."""
    key_size: int
    value_size: int
    """Of one CPU, as declared."""
    max_entries: int
    flags: int

    @staticmethod
    def of(fd: int) -> MapShape:
        """The shape of the map with this descriptor. The kernel cuts names at 15 bytes.

        Raises:
            OSError: it is no map.
        """
        info = ctypes.create_string_buffer(_INFO.size)
        attr = _pack(_INFO_ATTR, fd, len(info), ctypes.addressof(info))
        bpf(Command.OBJ_GET_INFO_BY_FD, attr, f"file descriptor {fd} is no map")
        kind, _, key_size, value_size, max_entries, flags, name = _INFO.unpack(info)
        return MapShape(name.rstrip(b"\0").decode(), kind, key_size, value_size, max_entries, flags)


class Batch(NamedTuple):
    """Consecutive entries of a map, in memory that the next batch overwrites."""

    size: int
    keys: memoryview
    values: memoryview

    def key(self, number: int) -> bytes:
        """The key of one entry."""
        size = len(self.keys) // self.size
        return bytes(self.keys[number * size : (number + 1) * size])

    def every_key(self) -> list[bytes]:
        """The keys of all entries."""
        keys = bytes(self.keys)
        size = len(keys) // self.size if self.size else 1
        return [keys[at : at + size] for at in range(0, len(keys), size)]

    def entry(self, number: int) -> tuple[bytes, bytes]:
        """Key and value of one entry."""
        size = len(self.values) // self.size
        return self.key(number), bytes(self.values[number * size : (number + 1) * size])


class Map:
    """A map, by a file descriptor that this object owns. For one thread: buffers are reused.

    A value of a per-CPU map holds the values of all possible CPUs, each padded to 8 bytes:
    `value_size` bytes in all, `cpu_value_size` each.

    An array with BPF_F_MMAPABLE is read and written in memory, without system calls. Copying a
    value there is as little atomic as in the kernel.
    """

    def __init__(self, fd: int) -> None:
        name, kind, key_size, value_size, max_entries, flags = MapShape.of(fd)
        self.fd = fd
        self.name: str = name
        self.key_size: int = key_size
        self.max_entries: int = max_entries
        self.cpu_value_size: int = value_size
        self.value_size: int = value_size
        if kind in (PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH):
            self.cpu_value_size = (value_size + 7) & ~7
            self.value_size = self.cpu_value_size * cpus.possible()
        self._step = (value_size + 7) & ~7
        self._array = kind in (ARRAY, PERCPU_ARRAY)
        self._mappable = kind == ARRAY and bool(flags & MMAPABLE)
        self._values: mmap.mmap | None = None
        if self._mappable:
            self._map()
        self._key = ctypes.create_string_buffer(self.key_size)
        self._value = ctypes.create_string_buffer(self.value_size)
        addresses = ctypes.addressof(self._key), ctypes.addressof(self._value)
        self._batch: tuple[Buffer, Buffer] | None = None
        """Buffers of the last sweep, because new memory costs more than reading."""
        self._attr = _pack(_ELEMENT, fd, *addresses, 0)
        # The kernel refuses a deletion with a value's address.
        self._delete_attr = _pack(_ELEMENT, fd, addresses[0], 0, 0)

    def lookup(self, key: bytes) -> bytes | None:
        """The value of `key`, or None.

        Raises:
            OSError: the kernel refused, for instance because the caller has no privileges.
            ValueError: the key has another size than the map's.
        """
        if self._values is not None:
            at = self._offset(key)
            return None if at is None else self._values[at : at + self.value_size]
        self._set_key(key)
        result = call_bpf(Command.MAP_LOOKUP, self._attr)
        if result == -ENOENT:
            return None
        if result < 0:
            raise failure(-result, f"look-up in map {self.name}")
        return self._value.raw

    def lookup_cpus(self, key: bytes) -> list[bytes]:
        """Each possible CPU's value of `key` in a per-CPU map; empty if there is none."""
        value = self.lookup(key)
        if value is None:
            return []
        size = self.cpu_value_size
        return [value[at : at + size] for at in range(0, len(value), size)]

    def update(self, key: bytes, value: bytes, flags: int = UPDATE_ANY) -> None:
        """Writes one entry.

        Raises:
            FileExistsError: `flags` is UPDATE_NOEXIST and the key exists.
            OSError: the map is full (E2BIG), or the kernel refused otherwise.
            ValueError: key or value have another size than the map's.
        """
        if len(value) != self.value_size:
            raise ValueError(f"map {self.name}: a value has {self.value_size} bytes")
        if self._values is not None and flags == UPDATE_ANY:
            at = self._offset(key)
            if at is not None:
                self._values[at : at + self.value_size] = value
                return
        self._set_key(key)
        self._value.raw = value
        if flags:
            addresses = ctypes.addressof(self._key), ctypes.addressof(self._value)
            attr = _pack(_ELEMENT, self.fd, *addresses, flags)
        else:
            attr = self._attr
        result = call_bpf(Command.MAP_UPDATE, attr)
        if result < 0:
            raise self._update_failure(-result)

    def mapped(self, first: int, count: int) -> bytes:
        """A copy of consecutive values of an array with BPF_F_MMAPABLE, each padded to 8 bytes.

        Raises:
            ValueError: the map cannot be mapped into memory.
        """
        values = self._values or self._map()
        return values[first * self._step : (first + count) * self._step]

    def write_mapped(self, index: int, value: bytes) -> None:
        """Overwrites one value of such an array, without the cost of a key.

        Raises:
            ValueError: the map cannot be mapped into memory.
            IndexError: the array has no such index, or the value has another size than its own.
        """
        values, at = self._values or self._map(), index * self._step
        if index >= self.max_entries:
            raise IndexError(f"map {self.name}: index {index}")
        values[at : at + self.value_size] = value

    def unmap(self) -> None:
        """Unmaps the values of such an array until `mapped` needs them again.

        Mapped pages count as resident memory of the process. Mapping a megabyte takes 20 us.
        """
        if self._values is not None:
            self._values.close()
            self._values = None

    def update_batch(self, keys: Sequence[bytes], value: bytes) -> None:
        """Writes entries of a hash with these keys and the same value, in 0.5 us each.

        A kernel without batches gets them one by one.

        Raises:
            OSError: as for `update`. Some of the entries may have been written.
            ValueError: key or value have another size than the map's.
        """
        for key in keys:
            self._check_key(key)
        if len(value) != self.value_size:
            raise ValueError(f"map {self.name}: a value has {self.value_size} bytes")
        if not keys:
            return
        count = len(keys)
        sources = (
            ctypes.create_string_buffer(b"".join(keys), count * self.key_size),
            ctypes.create_string_buffer(value * count, count * self.value_size),
        )
        addresses = map(ctypes.addressof, sources)
        attr = _pack(_BATCH_ATTR, 0, 0, *addresses, count, self.fd, UPDATE_ANY, 0)
        result = call_bpf(Command.MAP_UPDATE_BATCH, attr)
        if result in _NO_BATCHES:
            for key in keys:
                self.update(key, value)
        elif result < 0:
            raise self._update_failure(-result)

    def delete(self, key: bytes) -> bool:
        """Deletes one entry; False if it did not exist.

        Raises:
            OSError: the kernel refused.
        """
        self._set_key(key)
        result = call_bpf(Command.MAP_DELETE, self._delete_attr)
        if result == -ENOENT:
            return False
        if result < 0:
            raise failure(-result, f"deletion from map {self.name}")
        return True

    def delete_batch(self, keys: bytes) -> int:
        """Deletes the entries of a hash with these concatenated keys, in 0.2 us each.

        A kernel without batches gets them one by one.

        Returns:
            How many existed.

        Raises:
            OSError: the kernel refused.
            ValueError: the length is no multiple of the map's key size.
        """
        count, rest = divmod(len(keys), self.key_size)
        if rest:
            raise ValueError(f"map {self.name}: a key has {self.key_size} bytes")
        buffer = ctypes.create_string_buffer(keys, len(keys))
        at = deleted = 0
        while at < count:
            first = ctypes.addressof(buffer) + at * self.key_size
            attr = _pack(_BATCH_ATTR, 0, 0, first, 0, count - at, self.fd, 0, 0)
            result = call_bpf(Command.MAP_DELETE_BATCH, attr)
            if result in _NO_BATCHES:
                return deleted + self._delete_one_by_one(keys[at * self.key_size :])
            if result not in (0, -ENOENT):
                raise failure(-result, f"deletion from map {self.name}")
            done: int = _BATCH_COUNT.unpack_from(attr)[0]
            deleted += done
            # The kernel stopped at a key that does not exist.
            at += done + 1
        return deleted

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, as `batches` reads them. The caller may delete those it got.

        Raises:
            OSError: the kernel refused.
        """
        for batch in self.batches():
            for number in range(batch.size):
                yield batch.entry(number)

    def batches(self) -> Iterator[Batch]:
        """All entries, in batches if the kernel has them (0.2 us an entry), else one by one.

        Entries that come or go meanwhile may be missing. A batch is valid until the next one.

        Raises:
            OSError: the kernel refused.
        """
        batches = self._batches()
        batch = next(batches, None)
        if batch is None:
            yield from self._one_by_one()
        while batch is not None:
            yield batch
            batch = next(batches, None)

    def freeze(self) -> None:
        """Refuses all further changes by system calls, for every process (BPF_MAP_FREEZE).

        Raises:
            OSError: the kernel refused.
        """
        bpf(Command.MAP_FREEZE, _pack(_FREEZE, self.fd), f"freezing of map {self.name}")

    def close(self) -> None:
        """Closes the file descriptor. The kernel frees the map with its last user."""
        self.unmap()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _map(self) -> mmap.mmap:
        if not self._mappable:
            raise ValueError(f"map {self.name} cannot be mapped into memory")
        self._values = mmap.mmap(self.fd, _whole_pages(self._step * self.max_entries))
        return self._values

    def _set_key(self, key: bytes) -> None:
        self._check_key(key)
        self._key.raw = key

    def _update_failure(self, number: int) -> OSError:
        # The text of E2BIG is about argument lists. An array is never full.
        if number == E2BIG and not self._array:
            return OSError(number, f"map {self.name} is full")
        return failure(number, f"update of map {self.name}")

    def _delete_one_by_one(self, keys: bytes) -> int:
        size = self.key_size
        return sum(self.delete(keys[at : at + size]) for at in range(0, len(keys), size))

    def _offset(self, key: bytes) -> int | None:
        """Where the value of an array's index begins, in bytes; None if there is no such index."""
        self._check_key(key)
        index = int.from_bytes(key, "little")
        return index * self._step if index < self.max_entries else None

    def _check_key(self, key: bytes) -> None:
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name}: a key has {self.key_size} bytes")

    def _batches(self) -> Iterator[Batch]:
        """At least one batch, or none if kernel or map type have no batches."""
        # The kernel writes the number of a hash's bucket here in four bytes, for other maps a key.
        position = ctypes.create_string_buffer(max(self.key_size, 4))
        keys, values = self._batch or self._batch_buffers(min(BATCH, self.max_entries))
        self._batch = None  # a sweep inside this one uses memory of its own
        size = len(keys) // self.key_size
        started = False
        restarts = 0
        while True:
            at = ctypes.addressof(position)
            attr = _pack(
                _BATCH_ATTR,
                at if started else 0,
                at,
                ctypes.addressof(keys),
                ctypes.addressof(values),
                size,
                self.fd,
                0,
                0,
            )
            result = call_bpf(Command.MAP_LOOKUP_BATCH, attr)
            if result == -ENOSPC and size < self.max_entries:
                size = min(2 * size, self.max_entries)
                keys, values = self._batch_buffers(size)
                continue
            if result == -EINTR and restarts < RESTARTS:
                restarts += 1
                continue
            if result in _NO_BATCHES and not started:
                return
            if result not in (0, -ENOENT):
                raise failure(-result, f"sweep of map {self.name}")
            started, restarts = True, 0
            count: int = _BATCH_COUNT.unpack_from(attr)[0]
            yield Batch(
                count,
                memoryview(keys).cast("B")[: count * self.key_size],
                memoryview(values).cast("B")[: count * self.value_size],
            )
            if result:
                self._batch = keys, values
                return

    def _batch_buffers(self, size: int) -> tuple[Buffer, Buffer]:
        return (
            ctypes.create_string_buffer(size * self.key_size),
            ctypes.create_string_buffer(size * self.value_size),
        )

    def _one_by_one(self) -> Iterator[Batch]:
        key = self._next_key(None)
        for _ in range(self.max_entries):
            if key is None:
                return
            # Now, because from a key that the caller has deleted the kernel starts again.
            following = self._next_key(key)
            value = self.lookup(key)
            if value is not None:
                yield Batch(1, memoryview(key), memoryview(value))
            key = following

    def _next_key(self, key: bytes | None) -> bytes | None:
        following = ctypes.create_string_buffer(self.key_size)
        if key is not None:
            self._key.raw = key
        at = ctypes.addressof(self._key) if key is not None else 0
        attr = _pack(_ELEMENT, self.fd, at, ctypes.addressof(following), 0)
        result = call_bpf(Command.MAP_GET_NEXT_KEY, attr)
        if result == -ENOENT:
            return None
        if result < 0:
            raise failure(-result, f"walk of map {self.name}")
        return following.raw


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _pack(layout: Struct, *values: int) -> Buffer:
    attr = ctypes.create_string_buffer(layout.size)
    layout.pack_into(attr, 0, *values)
    return attr
