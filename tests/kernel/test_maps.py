from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from errno import E2BIG, EEXIST
from struct import Struct

import pytest

from deckwire.kernel import cpus, maps
from deckwire.kernel.loading import Loaded
from deckwire.kernel.maps import ARRAY, MMAPABLE, UPDATE_NOEXIST, Map
from deckwire.kernel.syscalls import Buffer, Command, bpf, call_bpf

U32, U64 = Struct("=I"), Struct("=Q")

pytestmark = pytest.mark.root


@pytest.fixture
def numbers(loaded: Loaded) -> Map:
    table = loaded.maps["numbers"]
    for key, _ in table.items():
        table.delete(key)
    return table


def test_sizes_come_from_the_kernel(loaded: Loaded) -> None:
    numbers, hits = loaded.maps["numbers"], loaded.maps["hits"]
    assert (numbers.key_size, numbers.value_size, numbers.max_entries) == (4, 8, 65_536)
    assert (hits.cpu_value_size, hits.value_size) == (8, 8 * cpus.possible())
    assert numbers.name == "numbers"


def test_entries_are_written_and_deleted(numbers: Map) -> None:
    key = U32.pack(7)
    assert numbers.lookup(key) is None
    numbers.update(key, U64.pack(1))
    numbers.update(key, U64.pack(2))
    assert numbers.lookup(key) == U64.pack(2)
    assert numbers.delete(key) is True
    assert numbers.delete(key) is False


def test_flags_reach_the_kernel(numbers: Map) -> None:
    numbers.update(U32.pack(1), U64.pack(1), UPDATE_NOEXIST)
    with pytest.raises(FileExistsError, match="update of map numbers") as caught:
        numbers.update(U32.pack(1), U64.pack(2), UPDATE_NOEXIST)
    assert caught.value.errno == EEXIST
    numbers.update(U32.pack(1), U64.pack(3))
    assert numbers.lookup(U32.pack(1)) == U64.pack(3)


def test_a_full_map_is_an_error(loaded: Loaded) -> None:
    parents = loaded.maps["vepa_parents"]
    for number in range(parents.max_entries):
        parents.update(U32.pack(number), b"\1")
    with pytest.raises(OSError, match="vepa_parents") as caught:
        parents.update(U32.pack(1_000), b"\1")
    assert caught.value.errno == E2BIG


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_sizes_are_checked(numbers: Map, key: bytes) -> None:
    with pytest.raises(ValueError, match="4 bytes"):
        numbers.lookup(key)
    with pytest.raises(ValueError, match="8 bytes"):
        numbers.update(U32.pack(1), key)


def test_a_sweep_yields_every_entry_once(numbers: Map) -> None:
    wanted = {U32.pack(n): U64.pack(n * n) for n in range(20_000)}
    for key, value in wanted.items():
        numbers.update(key, value)
    swept = list(numbers.items())
    assert len(swept) == len(wanted)
    assert dict(swept) == wanted


def test_a_sweep_grows_its_batch_for_a_full_bucket(
    numbers: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5_000):
        numbers.update(U32.pack(n), U64.pack(n))
    monkeypatch.setattr(maps, "BATCH", 1)
    with Map(os.dup(numbers.fd)) as fresh:  # which has no buffers of an earlier sweep
        assert len(dict(fresh.items())) == 5_000


def test_a_sweep_inside_another_does_not_disturb_it(numbers: Map) -> None:
    for n in range(3_000):
        numbers.update(U32.pack(n), U64.pack(n))
    once = list(numbers.items())
    nested = []
    for batch in numbers.batches():
        assert list(numbers.items()) == once
        nested += [batch.entry(n) for n in range(batch.size)]
    assert nested == once


def test_entries_may_be_deleted_during_a_sweep(numbers: Map) -> None:
    for n in range(10_000):
        numbers.update(U32.pack(n), U64.pack(n))
    assert sum(numbers.delete(key) for key, _ in numbers.items()) == 10_000
    assert list(numbers.items()) == []


def test_a_batch_of_keys_is_deleted_also_if_some_do_not_exist(numbers: Map) -> None:
    for n in range(100):
        numbers.update(U32.pack(n), U64.pack(n))
    wanted = [0, 1, 500, 501, 2, 99, 2, 502]
    assert numbers.delete_batch(b"".join(map(U32.pack, wanted))) == 4
    assert {U32.unpack(key)[0] for key, _ in numbers.items()} == set(range(3, 99))
    assert numbers.delete_batch(b"") == 0
    with pytest.raises(ValueError, match="4 bytes"):
        numbers.delete_batch(b"abcde")


def older_kernel(command: int, attr: Buffer) -> int:
    """bpf(2) of a kernel without batches."""
    batches = (Command.MAP_LOOKUP_BATCH, Command.MAP_UPDATE_BATCH, Command.MAP_DELETE_BATCH)
    return call_bpf(0xFFFF if command in batches else command, attr)


@pytest.fixture(params=["batches", "one by one"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "one by one":
        monkeypatch.setattr(maps, "call_bpf", older_kernel)


@pytest.mark.usefixtures("_both_ways")
def test_many_keys_are_written_with_one_call(numbers: Map) -> None:
    keys = [U32.pack(n) for n in range(5_000)]
    numbers.update(keys[7], U64.pack(1))
    numbers.update_batch(keys, U64.pack(2))
    numbers.update_batch([], U64.pack(3))
    assert dict(numbers.items()) == dict.fromkeys(keys, U64.pack(2))
    assert numbers.delete_batch(b"".join([*keys[:10], U32.pack(9_999), keys[10]])) == 11
    assert {key for key, _ in numbers.items()} == set(keys[11:])
    with pytest.raises(ValueError, match="4 bytes"):
        numbers.update_batch([keys[0], b"abc", b"abcde"], U64.pack(1))
    with pytest.raises(ValueError, match="8 bytes"):
        numbers.update_batch(keys, b"")


@pytest.mark.usefixtures("_both_ways")
def test_more_keys_than_the_map_holds_are_refused(numbers: Map) -> None:
    keys = [U32.pack(n) for n in range(numbers.max_entries + 1)]
    with pytest.raises(OSError, match="map numbers is full") as caught:
        numbers.update_batch(keys, U64.pack(1))
    assert caught.value.errno == E2BIG


def test_entries_of_an_array_cannot_be_deleted(loaded: Loaded) -> None:
    with pytest.raises(OSError, match="deletion from map"):
        loaded.maps["settings"].delete_batch(bytes(4))


def test_a_walk_without_batches_yields_the_same(
    numbers: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(300):
        numbers.update(U32.pack(n), U64.pack(n))
    batched = dict(numbers.items())
    monkeypatch.setattr(Map, "_batches", lambda _self: iter(()))
    assert dict(numbers.items()) == batched
    assert sum(numbers.delete(key) for key, _ in numbers.items()) == 300
    assert list(numbers.items()) == []


def test_an_lru_and_an_array_are_swept_too(loaded: Loaded) -> None:
    recent = loaded.maps["recent"]
    for n in range(100):
        recent.update(U32.pack(n), U64.pack(n))
    assert dict(recent.items()) == {U32.pack(n): U64.pack(n) for n in range(100)}
    assert [key for key, _ in loaded.maps["hits"].items()] == [U32.pack(0), U32.pack(1)]


def test_a_per_cpu_value_has_a_part_for_each_cpu(loaded: Loaded) -> None:
    hits = loaded.maps["hits"]
    before = sum(U64.unpack(part)[0] for part in hits.lookup_cpus(U32.pack(0)))
    loaded.programs["tc_ingress"].test_run(bytes(60), repeat=5)
    parts = hits.lookup_cpus(U32.pack(0))
    assert len(parts) == cpus.possible()
    assert sum(U64.unpack(part)[0] for part in parts) == before + 5
    assert hits.lookup_cpus(U32.pack(9)) == []


def test_a_descriptor_of_no_map_is_refused() -> None:
    with open("/dev/null", "rb") as file, pytest.raises(OSError, match="is no map"):
        Map(file.fileno())


# --- arrays in memory ---

_MAP_CREATE = 0
ENTRIES, VALUE_BYTES = 700, 12
"""The entries fill no whole pages, and a value is no multiple of eight bytes."""


def array(flags: int) -> int:
    """A new array's file descriptor."""
    layout = Struct("5I")
    attr = ctypes.create_string_buffer(layout.size)
    layout.pack_into(attr, 0, ARRAY, 4, VALUE_BYTES, ENTRIES, flags)
    return bpf(_MAP_CREATE, attr, "no new array")


@pytest.fixture
def mapped() -> Iterator[Map]:
    # Before Linux 5.11 maps count against it.
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, infinite)
    try:
        with Map(array(MMAPABLE)) as table:
            yield table
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


@pytest.fixture
def by_calls(mapped: Map, monkeypatch: pytest.MonkeyPatch) -> Iterator[Map]:
    """The same map in an object that does not map it into memory."""
    monkeypatch.setattr(maps, "MMAPABLE", 0)
    with Map(os.dup(mapped.fd)) as table:
        yield table


def test_a_mapped_array_has_the_values_of_the_kernel(mapped: Map, by_calls: Map) -> None:
    for index in (0, 1, 341, 342, ENTRIES - 1):
        key = U32.pack(index)
        mapped.update(key, bytes([1 + index % 250]) * VALUE_BYTES)
        assert by_calls.lookup(key) == mapped.lookup(key) == bytes([1 + index % 250]) * VALUE_BYTES
        by_calls.update(key, bytes([2 + index % 250]) * VALUE_BYTES)
        assert mapped.lookup(key) == by_calls.lookup(key) == bytes([2 + index % 250]) * VALUE_BYTES
    assert dict(mapped.items()) == dict(by_calls.items())


def test_a_mapped_array_is_written_by_index(mapped: Map, by_calls: Map) -> None:
    for index in (0, ENTRIES - 1):
        mapped.write_mapped(index, b"\7" * VALUE_BYTES)
        assert by_calls.lookup(U32.pack(index)) == b"\7" * VALUE_BYTES
    for index, value in ((ENTRIES, bytes(VALUE_BYTES)), (1, b""), (1, bytes(VALUE_BYTES + 1))):
        with pytest.raises(IndexError):
            mapped.write_mapped(index, value)
    assert by_calls.lookup(U32.pack(1)) == bytes(VALUE_BYTES)


def test_a_mapped_array_has_the_same_bounds(mapped: Map, by_calls: Map) -> None:
    for table in (mapped, by_calls):
        beyond = U32.pack(ENTRIES)
        assert table.lookup(beyond) is None
        with pytest.raises(OSError, match="update of map") as caught:
            table.update(beyond, bytes(VALUE_BYTES))
        assert caught.value.errno == E2BIG
        with pytest.raises(FileExistsError):
            table.update(U32.pack(0), bytes(VALUE_BYTES), UPDATE_NOEXIST)
        with pytest.raises(ValueError, match="4 bytes"):
            table.lookup(b"")
        with pytest.raises(ValueError, match="12 bytes"):
            table.update(U32.pack(0), b"")


def test_a_frozen_map_can_be_read_and_not_changed(loaded: Loaded) -> None:
    hits = loaded.maps["hits"]
    value = hits.lookup(U32.pack(0))
    assert value is not None
    hits.freeze()
    with pytest.raises(PermissionError):
        hits.update(U32.pack(0), value)
    assert hits.lookup(U32.pack(0)) == value
