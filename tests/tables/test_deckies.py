"""The watched deckies are replaced as a whole, on real maps, while frames pass."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from errno import E2BIG
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

import pytest

from deckwire.captures import Frame
from deckwire.deckies import Decky, Registry, parse_address
from deckwire.kernel import maps
from deckwire.kernel.maps import Map
from deckwire.kernel.syscalls import Buffer, Command, call_bpf
from deckwire.tables import deckies
from deckwire.tables.bloom_filter import filter_of
from deckwire.tables.deckies import DeckiesRefused, DeckyTables
from deckwire.tables.tables import Tables
from deckwire.tcp.addresses import MAPPED_PREFIX
from tests.support.conversation import DECKY, DECKY6, START_NS, Conversation, in_time
from tests.support.emitted import of
from tests.support.replaying import ReplayLab

ROOM = 64
"""Entries of each of the small tables."""
ZERO = bytes(4)

State = tuple[set[bytes], set[bytes], bytes]


def v4(first: int, count: int) -> list[bytes]:
    numbers = range(first, first + count)
    return [Decky("d", IPv4Address(0x0A00_0000 + n)).packed for n in numbers]


def v6(first: int, count: int) -> list[bytes]:
    numbers = range(first, first + count)
    return [IPv6Address((0x2001_0DB8 << 96) + n).packed for n in numbers]


@pytest.fixture(scope="module")
def small() -> Iterator[ReplayLab]:
    if os.geteuid():
        pytest.skip("needs root: loads programs")
    with ReplayLab(table_sizes={"MAX_DECKIES": ROOM}) as lab:
        yield lab


@pytest.fixture
def tables(small: ReplayLab) -> DeckyTables:
    """Empty maps of the deckies."""
    made = DeckyTables(small.loaded.maps)
    made.replace([])
    assert state(small) == (set(), set(), filter_of([]))
    return made


def state(lab: ReplayLab) -> State:
    """The state of the kernel: both maps and the Bloom filter."""
    found = lab.loaded.maps
    bloom_filter = found["decky_filter"].lookup(ZERO)
    assert bloom_filter is not None
    return (
        {key for key, _ in found["deckies4"].items()},
        {key for key, _ in found["deckies6"].items()},
        bloom_filter,
    )


def watched(addresses: Sequence[bytes]) -> State:
    """The state that these deckies need."""
    four = {packed for packed in addresses if packed.startswith(bytes(10) + b"\xff\xff")}
    return {packed[12:] for packed in four}, set(addresses) - four, filter_of(addresses)


FULL = [
    pytest.param(v4(0, ROOM), v4(1_000, ROOM), id="IPv4"),
    pytest.param(v6(0, ROOM), v6(1_000, ROOM), id="IPv6"),
    pytest.param(v4(0, ROOM) + v6(0, ROOM), v4(32, ROOM) + v6(32, ROOM), id="both"),
    pytest.param(v4(0, ROOM), v6(0, ROOM), id="IPv4 to IPv6"),
]


@pytest.mark.root
@pytest.mark.parametrize(("old", "new"), FULL)
def test_full_tables_are_replaced(
    small: ReplayLab, tables: DeckyTables, old: list[bytes], new: list[bytes]
) -> None:
    for addresses in (old, new, old, old, []):
        tables.replace(addresses)
        assert state(small) == watched(addresses)


@pytest.mark.root
@pytest.mark.parametrize(("old", "new"), FULL)
def test_the_same_where_the_kernel_knows_no_batches(
    small: ReplayLab,
    tables: DeckyTables,
    old: list[bytes],
    new: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def older(command: int, attr: Buffer) -> int:
        """Fail like a kernel that does not know batches."""
        batches = (Command.MAP_LOOKUP_BATCH, Command.MAP_UPDATE_BATCH, Command.MAP_DELETE_BATCH)
        return call_bpf(0xFFFF if command in batches else command, attr)

    monkeypatch.setattr(maps, "call_bpf", older)
    for addresses in (old, new):
        tables.replace(addresses)
        assert state(small) == watched(addresses)
    with pytest.raises(DeckiesRefused):
        tables.replace(new + v6(5_000, ROOM + 1))
    assert state(small) == watched(new)


@pytest.mark.root
@pytest.mark.parametrize(
    ("old", "new", "table"),
    [
        # IPv4 has been replaced when IPv6 turns out not to fit.
        (v4(0, ROOM) + v6(0, 10), v4(1_000, ROOM) + v6(5, ROOM + 1), "deckies6"),
        (v4(0, 10) + v6(0, ROOM), v4(5, ROOM + 1) + v6(1_000, ROOM), "deckies4"),
        ([], v4(0, ROOM + 1), "deckies4"),
    ],
)
def test_too_many_deckies_change_nothing(
    small: ReplayLab, tables: DeckyTables, old: list[bytes], new: list[bytes], table: str
) -> None:
    tables.replace(old)
    for _ in range(2):
        with pytest.raises(DeckiesRefused) as caught:
            tables.replace(new)
        assert (caught.value.errno, caught.value.missing) == (E2BIG, 0)
        assert caught.value.strerror == f"the kernel refused the deckies: map {table} is full"
        assert state(small) == watched(old)
    fits = new[:ROOM]
    tables.replace(fits)
    assert state(small) == watched(fits)


@pytest.mark.root
def test_foreign_entries_are_removed(small: ReplayLab, tables: DeckyTables) -> None:
    tables.replace(v4(0, 10))
    for packed in v4(2_000, ROOM - 10):
        small.loaded.maps["deckies4"].update(packed[12:], b"\1")
    new = v4(5, ROOM)
    tables.replace(new)
    assert state(small) == watched(new)


class Contested(Map):
    """A map that somebody else fills as soon as there is room."""

    def delete_batch(self, keys: bytes) -> int:
        deleted = super().delete_batch(keys)
        for number in range(deleted - 3):
            self.update(v4(0x10_0000 + number, 1)[0][12:], b"\1")
        return deleted


@pytest.mark.root
def test_missing_deckies_are_counted_and_restored_by_the_next_change(
    small: ReplayLab, tables: DeckyTables
) -> None:
    old, new = v4(0, ROOM), v4(32, ROOM)
    tables.replace(old)
    # Of 32 deckies that were removed, 3 find room again.
    with Contested(os.dup(small.loaded.maps["deckies4"].fd)) as contested:
        rivals = DeckyTables({**small.loaded.maps, "deckies4": contested})
        with pytest.raises(DeckiesRefused) as caught:
            rivals.replace(new)
    assert caught.value.missing == 29
    four, _, bloom_filter = state(small)
    kept = [packed for packed in old if packed[12:] in four]
    assert len(kept) == ROOM - 29
    assert set(v4(32, 32)) <= set(kept)
    # Those that are still there are found.
    needed = int.from_bytes(filter_of(kept), "little")
    assert int.from_bytes(bloom_filter, "little") & needed == needed
    for addresses in (old, new):
        tables.replace(addresses)
        assert state(small) == watched(addresses)


@pytest.mark.root
@pytest.mark.parametrize(("decky", "others"), [(DECKY, v4), (DECKY6, v6)], ids=["IPv4", "IPv6"])
def test_a_decky_that_stays_is_always_watched(
    small: ReplayLab, tables: DeckyTables, decky: str, others: Callable[[int, int], list[bytes]]
) -> None:
    """Frames pass on another CPU while everybody else is replaced, also where that fails."""
    stays = [Decky("stays", parse_address(decky)).packed]
    client = "203.0.113.9" if decky == DECKY else "2001:db8:2::9"
    (syn,) = in_time(Conversation(client, decky).syn())
    program, counters = small.loaded.programs["tc_ingress"], small.loaded.maps["counters"]
    counters.update(ZERO, bytes(counters.value_size))
    tables.replace(stays + others(0, ROOM - 1))
    done = threading.Event()
    passed = [0]

    def pass_frames() -> None:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        while not done.is_set():
            program.test_run(syn.data, tstamp=START_NS, repeat=2_000)
            passed[0] += 2_000

    thread = threading.Thread(target=pass_frames)
    thread.start()
    try:
        rounds = 0
        while rounds < 50 or passed[0] < 100_000:
            rounds += 1
            tables.replace(stays + others(1_000 * (rounds % 7), ROOM - 1))
            with pytest.raises(DeckiesRefused):
                tables.replace(stays + others(9_000, ROOM))
    finally:
        done.set()
        thread.join()
    small.loaded.rings.drain()
    raised = Tables(small.loaded.maps).counters()
    assert raised["foreign_no_decky"] == 0
    assert raised["frames_syn"] == passed[0]


@pytest.mark.root
def test_a_registry_that_is_refused_leaves_the_one_before_in_force(small: ReplayLab) -> None:
    """Connections go on, nothing is ended, and the next one may be taken."""
    crowd = [Decky(f"n{n}", IPv4Address(0x0A00_0000 + n)) for n in range(ROOM + 1)]
    talk = Conversation().open().send(b"x").wait(4).send(b"y")
    after = Conversation(start_ns=START_NS + 2_000_000_000, client_port=43_000).open().send(b"z")
    counts: list[int] = []

    def frames() -> Iterator[Frame]:
        for number, frame in enumerate(in_time(talk, after)):
            if number == 4:
                assert small.last is not None
                pipeline = small.last.pipeline
                before = pipeline.registry
                with pytest.raises(DeckiesRefused):
                    pipeline.replace_registry(Registry(crowd))
                assert pipeline.registry is before
                counts.append(pipeline.counts["reloads_failed"])
                renamed = Registry([*crowd[:-2], Decky("shop", parse_address(DECKY))])
                pipeline.replace_registry(renamed)
                assert pipeline.registry is renamed
                counts.append(pipeline.counts["reloads_failed"])
            yield frame

    events = small.frames(frames(), [DECKY])
    assert counts == [1, 1]
    flows = {flow["src_port"]: flow["close"] for flow in of(events, "tcp_flow_timing")}
    assert flows == {40_000: "shutdown", 43_000: "shutdown"}
    assert small.last is not None
    assert small.last.stats.sums()["reloads_failed"] == 1


@pytest.mark.root
@pytest.mark.parametrize(("old", "new"), FULL)
def test_a_change_is_written_in_slices(
    small: ReplayLab,
    tables: DeckyTables,
    old: list[bytes],
    new: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller gets the thread after each slice, and deckies that stay are always there."""
    monkeypatch.setattr(deckies, "_SLICE", 10)
    tables.replace(old)
    change = tables.prepare(new)
    states = [state(small)]
    tables.apply(change, lambda: states.append(state(small)))
    assert state(small) == watched(new)
    stay = set(old) & set(new)
    for before, after in pairwise(states):
        entries = [one | {bytes(12) + key for key in four} for four, one, _ in (before, after)]
        assert 0 < len(entries[0] ^ entries[1]) <= 10
    for four, six, _ in states:
        assert {packed[12:] for packed in stay if packed.startswith(MAPPED_PREFIX)} <= four
        assert {packed for packed in stay if not packed.startswith(MAPPED_PREFIX)} <= six
