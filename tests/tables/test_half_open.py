"""The table of half-open connections, on the real map."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map
from deckwire.tables.half_open import HalfOpenTable
from tests.support.replaying import ReplayLab

KEY = bytes(range(36))
ZERO = abi.SLOT.pack(0)


def half_open(*, client: int = 0, syn_ns: int = 7, answered: bool = False) -> bytes:
    """A struct half_open with a SYN packet, and with a SYN-ACK packet if it was answered."""
    schema = abi.SCHEMAS["half_open"]
    value = schema.parse(b"\xff" * schema.sizeof())
    value.client = client
    value.syn.update({"time_ns": syn_ns, "ip_version": 4})
    value.synack.ip_version = 4 * answered
    data: bytes = schema.build(value)
    return data


def put(maps: Mapping[str, Map], index: int, key: bytes, value: bytes, generation: int = 2) -> None:
    """Write an entry of the first group, with a tag."""
    number, way = divmod(index, abi.HALF_OPEN_WAYS)
    tag = number * abi.HALF_OPEN_WAYS * 8 + way * 4
    overwrite(maps["half_open_sets"], tag, abi.SLOT.pack(1))
    entry = value + key + abi.SLOT.pack(generation)
    overwrite(maps["half_open"], index * abi.HALF_OPEN_ENTRY_BYTES, entry)


def overwrite(table: Map, at: int, data: bytes) -> None:
    """Write a part of the first value."""
    group = bytearray(table.lookup(ZERO) or b"")
    group[at : at + len(data)] = data
    table.update(ZERO, bytes(group))


@pytest.mark.root
def test_unanswered_gives_half_open_connections_without_a_synack(lab: ReplayLab) -> None:
    lab.frames([], [])
    maps = lab.loaded.maps
    half_opens = HalfOpenTable(maps)
    put(maps, 0, KEY, half_open(client=1, syn_ns=1 << 40))
    put(maps, 127, KEY[::-1], half_open(answered=True))
    put(maps, 9, KEY, half_open(client=1, syn_ns=1 << 40), generation=3)  # being written
    assert half_opens.size() == 3
    assert [key for key, _ in half_opens.entries()] == [KEY, KEY, KEY[::-1]]
    found = [(KEY, 1, 1 << 40)]
    assert list(half_opens.unanswered({KEY[16:32]}, 1 << 40)) == found  # an address
    assert list(half_opens.unanswered({KEY[16:24]}, 0)) == found  # a subnet
    assert list(half_opens.unanswered({KEY[16:32]}, (1 << 40) + 1)) == []
    assert list(half_opens.unanswered({KEY[:16], KEY[:8]}, 0)) == []
    lab.frames([], [])


class Changing:
    """A map whose first group is another one at each second look."""

    max_entries = 1

    def __init__(self, *groups: bytes) -> None:
        self._groups = list(groups)

    def lookup(self, _: bytes) -> bytes:
        return self._groups.pop(0)


@pytest.mark.root
def test_an_entry_that_changes_while_it_is_read_is_left_out(lab: ReplayLab) -> None:
    lab.frames([], [])
    maps = lab.loaded.maps
    put(maps, 5, KEY, half_open(client=1), generation=2)
    before = maps["half_open"].lookup(ZERO)
    put(maps, 5, KEY, half_open(client=1), generation=4)
    after = maps["half_open"].lookup(ZERO)
    assert before is not None
    assert after is not None
    for groups, expected in (((before, after), 0), ((before, before), 1)):
        changing: Map = Changing(*groups)  # type: ignore[assignment]
        table = HalfOpenTable({**maps, "half_open": changing})
        assert len(list(table.unanswered({KEY[16:32]}, 0))) == expected
    lab.frames([], [])
