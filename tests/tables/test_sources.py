"""The table of sources, on the real maps: what is read, and when it is read again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.sources import Glance, ProbeKind, Source
from deckwire.tables import sources as module
from deckwire.tables.sources import SourceTable
from deckwire.tcp.addresses import address_text
from tests.support.bpf_frames import CLIENT, DECKY, DECKY6, DECKY_B, Talk, ethernet, ipv4, tcp
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root


@pytest.fixture
def table(lab: ReplayLab) -> SourceTable:
    """An empty table of three watched deckies."""
    lab.frames([], [DECKY, DECKY_B, DECKY6])
    return SourceTable(lab.loaded.maps, abi.SETTINGS.parse(settings(lab)).seed)


def settings(lab: ReplayLab) -> bytes:
    value = lab.loaded.maps["settings"].lookup(bytes(4))
    assert value is not None
    return value


def feed(lab: ReplayLab, *frames: bytes, at_ns: int = 10**9) -> None:
    for number, frame in enumerate(frames):
        lab.loaded.programs["tc_ingress"].test_run(frame, tstamp=at_ns + number)
    lab.loaded.rings.drain()


def syns(source: str, count: int) -> list[bytes]:
    return [ethernet(ipv4(tcp(dport=1 + port, seq=port), source)) for port in range(count)]


def names(found: Iterable[Source]) -> list[str]:
    return sorted(address_text(one.address) for one in found)


def test_only_what_has_changed_is_read_again(lab: ReplayLab, table: SourceTable) -> None:
    assert list(table.changed()) == []
    feed(lab, *syns("192.0.2.1", 3), *syns("192.0.2.2", 30))
    assert names(table.changed()) == ["192.0.2.1", "192.0.2.2"]
    assert list(table.changed()) == []
    feed(lab, *syns("192.0.2.2", 31))
    (second,) = table.changed()
    assert second.probes == {ProbeKind.SYN: 61}
    assert len(second.targets) == 31
    assert list(table.changed()) == []


def test_an_answer_about_a_target_outside_of_the_slot_is_a_change(
    lab: ReplayLab, table: SourceTable
) -> None:
    feed(lab, *syns(CLIENT, 20))
    list(table.changed())
    feed(lab, Talk(server_port=19).s("RA", 0, 1))
    (source,) = table.changed()
    assert [one.port for one in source.targets if one.answers] == [19]


@pytest.mark.parametrize(
    ("bound", "limit", "ports", "most"),
    [("READ_SETS", 2, 1, 8), ("READ_SOURCES", 2, 5, 5), ("READ_TARGETS", 10, 5, 5)],
)
def test_the_next_call_goes_on_where_the_last_one_stopped(
    lab: ReplayLab,
    table: SourceTable,
    bound: str,
    limit: int,
    ports: int,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, bound, limit)
    clients = [f"192.0.2.{number}" for number in range(1, 41)]
    feed(lab, *(frame for one in clients for frame in syns(one, ports)))
    found: list[Source] = []
    calls = 0
    while more := list(table.changed()):
        # A set has four sources, and is read as a whole.
        assert len(more) <= most
        found += more
        calls += 1
    assert calls >= 40 / most
    assert names(found) == sorted(clients)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 40])
def test_each_source_has_its_own_further_targets(
    lab: ReplayLab, table: SourceTable, count: int
) -> None:
    clients = [f"192.0.2.{number}" for number in range(1, count + 1)]
    feed(lab, *(frame for at, one in enumerate(clients) for frame in syns(one, 20 + at)))
    # Of a source that is not read.
    feed(lab, *syns("203.0.113.1", 30))
    found = table.changed(lambda glance: address_text(glance.address) in clients)
    ports = {address_text(one.address): {each.port for each in one.targets} for one in found}
    assert ports == {one: {*range(1, 21 + at)} for at, one in enumerate(clients)}


def test_sources_come_in_the_order_of_their_last_probes(lab: ReplayLab, table: SourceTable) -> None:
    clients = [f"192.0.2.{number}" for number in range(1, 41)]
    feed(lab, *(syns(one, 1)[0] for one in reversed(clients)))
    feed(lab, syns(clients[-1], 1)[0], at_ns=2 * 10**9)
    in_order = [*reversed(clients[:-1]), clients[-1]]
    assert [address_text(one.address) for one in table.changed()] == in_order


def test_a_source_that_is_not_wanted_comes_again(lab: ReplayLab, table: SourceTable) -> None:
    seen: list[Glance] = []

    def none(glance: Glance) -> bool:
        seen.append(glance)
        return False

    feed(lab, *syns("192.0.2.1", 1), *syns("192.0.2.2", 5))
    for _ in range(2):
        assert list(table.changed(none)) == []
        assert [(each.strong, each.proven, each.is_news) for each in seen] == [
            (False, False, True),
            (True, False, True),
        ]
        seen.clear()
    assert names(table.changed()) == ["192.0.2.1", "192.0.2.2"]
    # More of the same is no news; another port is.
    feed(lab, *syns("192.0.2.2", 5), at_ns=2 * 10**9)
    feed(lab, *syns("192.0.2.1", 2), at_ns=3 * 10**9)
    assert list(table.changed(none)) == []
    assert [each.is_news for each in seen] == [False, True]
    assert names(table.changed()) == ["192.0.2.1", "192.0.2.2"]


def test_the_kernels_tables_are_mapped_only_while_they_are_read(
    lab: ReplayLab, table: SourceTable
) -> None:
    """Their pages would count as memory of the agent."""
    feed(lab, *syns(CLIENT, 20))
    mapped = "anon_inode:bpf-map"
    before = Path("/proc/self/maps").read_text().count(mapped)
    calls = table.changed()
    assert len(next(calls).targets) == 20
    assert Path("/proc/self/maps").read_text().count(mapped) == before + 2
    assert list(calls) == []
    assert Path("/proc/self/maps").read_text().count(mapped) == before


def test_a_source_that_gets_its_slot_just_now_is_read_later(
    lab: ReplayLab, table: SourceTable
) -> None:
    feed(lab, *syns(CLIENT, 1))
    values = lab.loaded.maps["probe_sources"]
    ((key, value),) = [(key, value) for key, value in values.items() if any(value)]
    schema = abi.SCHEMAS["probe_source"]
    source = schema.parse(value)
    source.generation += 1
    values.update(key, schema.build(source))
    assert list(table.changed()) == []
    source.generation += 1
    values.update(key, schema.build(source))
    assert names(table.changed()) == [CLIENT]


def test_targets_of_a_decky_that_is_watched_no_more(lab: ReplayLab, table: SourceTable) -> None:
    """Read before, it keeps its name; never read, it has none and is left out."""
    first, second = syns(CLIENT, 1)[0], ethernet(ipv4(tcp(dport=9), CLIENT, DECKY_B))
    feed(lab, first)
    (source,) = table.changed()
    feed(lab, second)
    lab.loaded.maps["deckies4"].delete(source.targets[0].decky[12:])
    assert len(next(table.changed()).targets) == 2
    fresh = SourceTable(lab.loaded.maps, abi.SETTINGS.parse(settings(lab)).seed)
    feed(lab, second)
    assert [one.port for one in next(fresh.changed()).targets] == [9]


def test_a_target_that_two_cpus_have_added_is_one(lab: ReplayLab, table: SourceTable) -> None:
    feed(lab, *syns(CLIENT, 2))
    values = lab.loaded.maps["probe_sources"]
    ((key, value),) = [(key, value) for key, value in values.items() if any(value)]
    schema = abi.SCHEMAS["probe_source"]
    source = schema.parse(value)
    source.target[1] = source.target[0].copy()
    source.target[1].first_ns -= 5
    source.target[1].kinds = 1 << ProbeKind.FIN
    values.update(key, schema.build(source))
    ((target,),) = [one.targets for one in table.changed()]
    assert target.kinds == 1 << ProbeKind.SYN | 1 << ProbeKind.FIN
    assert target.first_ns == source.target[0].first_ns - 5


def test_numbers_of_the_last_syns_come_in_order(lab: ReplayLab, table: SourceTable) -> None:
    """After each of 40 SYNs: the numbers of the last eight, and their count."""
    for n in range(40):
        feed(lab, ethernet(ipv4(tcp(sport=1_024 + n, seq=100 + n), CLIENT, ip_id=n + 7)))
        (source,) = table.changed()
        first = max(n - 7, 0)
        assert source.isns == tuple(range(100 + first, 101 + n))
        assert source.ip_ids == tuple(range(7 + first, 8 + n))
        assert source.probes == {ProbeKind.SYN: n + 1}
