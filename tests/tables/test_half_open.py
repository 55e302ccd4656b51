"""The table of half-open connections, on the real map."""

from __future__ import annotations

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


def put(table: Map, index: int, key: bytes, value: bytes, generation: int = 2) -> None:
    """Write an entry of the first group, with a tag."""
    group = bytearray(table.lookup(ZERO) or b"")
    number, way = divmod(index, abi.HALF_OPEN_WAYS)
    tag = abi.HALF_OPEN_GROUP_SETS + number * abi.HALF_OPEN_WAYS * 8 + way * 4
    group[tag : tag + 4] = abi.SLOT.pack(1)
    entry = value + key + abi.SLOT.pack(generation)
    at = abi.HALF_OPEN_GROUP_ENTRIES + index * abi.HALF_OPEN_ENTRY_BYTES
    group[at : at + len(entry)] = entry
    table.update(ZERO, bytes(group))


@pytest.mark.root
def test_unanswered_gives_half_open_connections_without_a_synack(lab: ReplayLab) -> None:
    lab.frames([], [])
    table = lab.loaded.maps["half_open"]
    half_opens = HalfOpenTable(table)
    put(table, 0, KEY, half_open(client=1, syn_ns=1 << 40))
    put(table, 127, KEY[::-1], half_open(answered=True))
    put(table, 9, KEY, half_open(client=1, syn_ns=1 << 40), generation=3)  # being written
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
    table = lab.loaded.maps["half_open"]
    put(table, 5, KEY, half_open(client=1), generation=2)
    before = table.lookup(ZERO)
    put(table, 5, KEY, half_open(client=1), generation=4)
    after = table.lookup(ZERO)
    assert before is not None
    assert after is not None
    for groups, expected in (((before, after), 0), ((before, before), 1)):
        changing: Map = Changing(*groups)  # type: ignore[assignment]
        assert len(list(HalfOpenTable(changing).unanswered({KEY[16:32]}, 0))) == expected
    lab.frames([], [])
