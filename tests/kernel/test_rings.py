from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from struct import Struct, pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.kernel.loading import Loaded
from deckwire.kernel.rings import Rings, ring_bytes
from deckwire.limits import RING_BYTES_ALL, RING_BYTES_MIN

U64 = Struct("=Q")
PAGE = mmap.PAGESIZE
SIZE = 1 << 16


class Writer:
    """A ring in a file, written as the kernel writes it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, PAGE + SIZE)
        self.memory = mmap.mmap(self.fd, PAGE + SIZE)
        self.head = 0

    def start_at(self, position: int) -> None:
        self.head = position
        self.memory[1024:1040] = U64.pack(position) * 2

    def put(self, record: bytes) -> None:
        for byte_at, byte in enumerate(record, self.head):
            self.memory[PAGE + byte_at % SIZE] = byte
        self.head += len(record)
        self.memory[1024:1032] = U64.pack(self.head)

    def tail(self) -> int:
        return int(U64.unpack(self.memory[1032:1040])[0])


def sample(payload: bytes) -> bytes:
    padding = -(12 + len(payload)) % 8
    return pack("=IHHI", 9, 0, 12 + len(payload) + padding, len(payload) + padding) + (
        payload + bytes(padding)
    )


def lost(count: int) -> bytes:
    return pack("=IHHQQ", 2, 0, 24, 1, count)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Writer, Rings]]:
    monkeypatch.setattr("select.epoll", _NoEpoll)  # which accepts no files
    writer = Writer()
    with Rings([writer.fd], SIZE, [5]) as rings:
        yield writer, rings


class _NoEpoll:
    def __init__(self, size: int) -> None: ...

    def register(self, fd: int, events: int) -> None: ...

    def close(self) -> None: ...


def test_samples_are_copied_with_their_cpu(written: tuple[Writer, Rings]) -> None:
    writer, rings = written
    writer.put(sample(b"abcd"))
    writer.put(sample(b"efghijklmnop"))
    drained = rings.drain()
    writer.memory[PAGE:] = bytes(SIZE)
    assert drained == [(5, b"abcd"), (5, b"efghijklmnop")]
    assert writer.tail() == writer.head
    assert rings.drain() == []


@pytest.mark.parametrize("before_the_end", range(8, 64, 8))
def test_a_record_may_wrap_anywhere(written: tuple[Writer, Rings], before_the_end: int) -> None:
    writer, rings = written
    writer.start_at(7 * SIZE - before_the_end)
    payloads = [bytes([n]) * (4 + 8 * n) for n in range(8)]
    for payload in payloads:
        writer.put(sample(payload))
    assert [data for _, data in rings.drain()] == payloads


def test_losses_are_counted_by_cpu(written: tuple[Writer, Rings]) -> None:
    writer, rings = written
    writer.put(lost(3))
    writer.put(sample(b"abcd"))
    writer.put(lost(1 << 40))
    assert [data for _, data in rings.drain()] == [b"abcd"]
    assert rings.lost == {5: 3 + (1 << 40)}


def test_the_bytes_of_samples_are_counted_by_cpu(written: tuple[Writer, Rings]) -> None:
    """With their headers, and without records of losses."""
    writer, rings = written
    writer.start_at(7 * SIZE - 24)
    writer.put(sample(b"abcd"))
    writer.put(lost(3))
    writer.put(sample(b"efghijklmnop"))
    rings.drain()
    assert rings.read == {5: 16 + 24}
    # What a ring skips counts too: else the kernel would take it for what is still unread.
    writer.put(pack("=IHHI", 9, 0, 0, 0) + bytes(4))
    rings.drain()
    assert rings.read == {5: 16 + 24 + 16}


def test_other_records_are_skipped(written: tuple[Writer, Rings]) -> None:
    writer, rings = written
    writer.put(pack("=IHHQ", 5, 0, 16, 0))  # PERF_RECORD_THROTTLE
    writer.put(sample(b"abcd"))
    assert [data for _, data in rings.drain()] == [b"abcd"]
    assert rings.corrupt == 0


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(pack("=IHHI", 9, 0, 0, 0) + bytes(4), id="size 0"),
        pytest.param(pack("=IHHI", 9, 0, 4, 0) + bytes(4), id="smaller than its header"),
        pytest.param(pack("=IHHI", 9, 0, 15, 0) + bytes(4), id="not a multiple of eight"),
        pytest.param(pack("=IHHI", 9, 0, 65_528, 0) + bytes(4), id="beyond the head"),
        pytest.param(pack("=IHHI", 9, 0, 16, 5) + bytes(4), id="payload beyond the record"),
        pytest.param(pack("=IHHI", 9, 0, 16, 0xFFFF_FFFF) + bytes(4), id="payload of 4 GB"),
    ],
)
def test_an_impossible_size_skips_the_ring_up_to_its_head(
    written: tuple[Writer, Rings], record: bytes
) -> None:
    writer, rings = written
    writer.put(sample(b"good"))
    writer.put(record)
    writer.put(sample(b"lost"))
    assert rings.drain() == [(5, b"good")]
    assert rings.corrupt == 1
    writer.put(sample(b"next"))
    assert rings.drain() == [(5, b"next")]
    assert rings.corrupt == 1


@given(st.binary(min_size=8, max_size=400).map(lambda data: data[: len(data) & ~7]))
def test_no_bytes_harm_the_reader(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("select.epoll", _NoEpoll)
        writer = Writer()
        with Rings([writer.fd], SIZE) as rings:
            writer.start_at(SIZE - 64)
            writer.put(data)
            for _, drained in rings.drain():
                assert drained in data
            assert writer.tail() == writer.head


@pytest.mark.parametrize(
    ("wanted", "cpu_count", "size"),
    [
        (1 << 20, 2, 1 << 20),
        (1_500_000, 2, 1 << 20),
        (1, 2, RING_BYTES_MIN),
        (1 << 20, 512, RING_BYTES_ALL // 512),
        (1 << 20, 8_192, RING_BYTES_MIN),
        (1 << 40, 1, 1 << 26),
    ],
)
def test_sizes_are_powers_of_two_within_bounds(wanted: int, cpu_count: int, size: int) -> None:
    assert ring_bytes(wanted, cpu_count) == size


@pytest.mark.root
def test_samples_lost_while_the_reader_pauses_are_counted(loaded: Loaded) -> None:
    submit, rings = loaded.programs["submit"], loaded.rings
    rings.drain()
    before = sum(rings.lost.values())
    os.sched_setaffinity(0, {rings.cpus[0]})
    try:
        verdicts = [submit.test_run(bytes(1_000), tstamp=n).verdict for n in range(1_000)]
        kept = [U64.unpack(data[:8])[0] for _, data in rings.drain()]
        submit.test_run(bytes(60), tstamp=5_000)  # with it the kernel reports the losses
        after = rings.drain()
    finally:
        os.sched_setaffinity(0, set(rings.cpus))
    assert 0 < len(kept) < 1_000
    assert kept == [n for n, verdict in enumerate(verdicts) if not verdict]
    assert [U64.unpack(data[:8])[0] for _, data in after] == [5_000]
    assert sum(rings.lost.values()) - before == 1_000 - len(kept)


@pytest.mark.root
def test_every_sample_of_many_rounds_arrives_once_and_whole(loaded: Loaded) -> None:
    submit, rings = loaded.programs["submit"], loaded.rings
    rings.drain()
    frame = os.urandom(777)
    got = []
    for n in range(2_000):
        submit.test_run(frame, tstamp=n)
        if n % 50 == 49:
            got += rings.drain()
    assert sorted(U64.unpack(data[:8])[0] for _, data in got) == list(range(2_000))
    assert all(data[8 : 8 + len(frame)] == frame for _, data in got)


@pytest.mark.root
def test_a_quarter_of_a_ring_wakes_the_reader(loaded: Loaded) -> None:
    submit, rings = loaded.programs["submit"], loaded.rings
    rings.drain()
    rings.wait(0)
    submit.test_run(bytes(60))
    assert rings.wait(0) is False
    for _ in range(100):
        submit.test_run(bytes(1_000))
    assert rings.wait(1) is True
    rings.drain()
