"""The suppression windows of the kernel, on a real map."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deckwire.abi import structs as abi
from deckwire.kernel.maps import Map
from deckwire.tables.suppression import Suppressed, Suppression
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

SIGNATURE = 0x0001_2345_6789_ABCD
WINDOW = "192.0.2.9 tcp_handshake 198.51.100.7|443"
LATER = "192.0.2.9 tcp_handshake 198.51.100.8|443"
GRAIN = 1 << 28
"""Ends of windows are multiples of it."""


@pytest.fixture
def table(lab: ReplayLab) -> Iterator[Map]:
    table = lab.loaded.maps["service_seen"]
    yield table
    empty = bytes(table.value_size)
    for key, value in list(table.items()):
        if value != empty:
            table.update(key, empty)


def slot(table: Map, signature: int) -> bytes:
    return (signature >> 32 & table.max_entries - 1).to_bytes(4, "little")


def entry(table: Map, signature: int = SIGNATURE) -> dict[str, int]:
    value = table.lookup(slot(table, signature))
    assert value is not None
    fields: dict[str, int] = abi.SEEN.parse(value)._asdict()
    return fields


def suppress_in_kernel(table: Map, signature: int = SIGNATURE, **kernel: int) -> None:
    """Write a value as the kernel does when it suppresses."""
    value = table.lookup(slot(table, signature))
    assert value is not None
    seen = abi.SEEN.parse(value)._replace(signature=signature, **kernel)
    table.update(slot(table, signature), abi.SEEN.build(seen))


def test_a_window_is_written_counted_and_taken_once(table: Map) -> None:
    suppression = Suppression(table)
    assert list(suppression.open(SIGNATURE, WINDOW, 500 * GRAIN)) == []
    opened = entry(table)
    assert opened == {
        "signature": SIGNATURE,
        "expires_ns": 500 * GRAIN,
        "decided": 1,
        "suppressed": 0,
        "first_ns": 0,
        "last_ns": 0,
        "deckies": 0,
    }
    suppress_in_kernel(table, suppressed=4, first_ns=110, last_ns=190, deckies=0b101)
    assert list(suppression.over(500 * GRAIN - 1)) == []
    assert list(suppression.over(500 * GRAIN)) == [Suppressed(WINDOW, 4, 110, 190, 0b101)]
    assert list(suppression.over(None)) == []
    assert entry(table)["suppressed"] == 0
    assert entry(table)["expires_ns"] == 500 * GRAIN


def test_it_suppresses_until_the_window_is_over(table: Map) -> None:
    suppression = Suppression(table)
    assert not suppression.suppresses(SIGNATURE, 100 * GRAIN)
    list(suppression.open(SIGNATURE, WINDOW, 500 * GRAIN))
    assert suppression.suppresses(SIGNATURE, 500 * GRAIN - 1)
    assert not suppression.suppresses(SIGNATURE, 500 * GRAIN)
    assert not suppression.suppresses(SIGNATURE ^ 1, 500 * GRAIN - 1)


def test_what_the_kernel_suppressed_on_its_own_belongs_to_the_window(table: Map) -> None:
    suppress_in_kernel(table, suppressed=2, first_ns=10, last_ns=20)
    opened = Suppression(table).open(SIGNATURE, WINDOW, 500 * GRAIN)
    assert list(opened) == [Suppressed(WINDOW, 2, 10, 20, 0)]


def test_a_slot_that_another_signature_took_over_counts_nothing(table: Map) -> None:
    suppression = Suppression(table)
    list(suppression.open(SIGNATURE, WINDOW, 500 * GRAIN))
    suppress_in_kernel(table, SIGNATURE ^ 1, suppressed=3)
    assert list(suppression.close(SIGNATURE)) == []
    assert entry(table)["suppressed"] == 3


def test_two_signatures_that_share_their_slots_have_windows(table: Map) -> None:
    suppression = Suppression(table)
    for number, signature in enumerate((SIGNATURE, SIGNATURE ^ 1)):
        assert list(suppression.open(signature, WINDOW, (500 + number) * GRAIN)) == []
    assert suppression.suppresses(SIGNATURE, 400 * GRAIN)
    assert suppression.suppresses(SIGNATURE ^ 1, 400 * GRAIN)
    assert len(suppression) == 2
    # Each stays where it is.
    for number, signature in enumerate((SIGNATURE, SIGNATURE ^ 1)):
        assert list(suppression.open(signature, LATER, (600 + number) * GRAIN)) == []
    assert len(suppression) == 2
    assert list(suppression.withdraw(SIGNATURE ^ 1)) == []
    assert suppression.suppresses(SIGNATURE, 400 * GRAIN)
    assert not suppression.suppresses(SIGNATURE ^ 1, 400 * GRAIN)


def test_the_window_that_ends_first_makes_room(table: Map) -> None:
    for ends in (500, 550), (550, 500):
        suppression = Suppression(table)
        for signature, end in zip((SIGNATURE, SIGNATURE ^ 1), ends, strict=True):
            suppression.open(signature, WINDOW, end * GRAIN)
        suppression.open(SIGNATURE ^ 2, LATER, 600 * GRAIN)
        left = [suppression.suppresses(SIGNATURE ^ n, 400 * GRAIN) for n in range(3)]
        assert left == [ends[0] > ends[1], ends[1] > ends[0], True]
        for n in range(3):
            suppression.withdraw(SIGNATURE ^ n)


def test_a_window_that_loses_its_slot_keeps_its_count(table: Map) -> None:
    suppression = Suppression(table)
    list(suppression.open(SIGNATURE, WINDOW, 500 * GRAIN))
    list(suppression.open(SIGNATURE ^ 2, LATER, 550 * GRAIN))
    suppress_in_kernel(table, suppressed=3, first_ns=110, last_ns=120)
    assert list(suppression.open(SIGNATURE ^ 1, LATER, 600 * GRAIN)) == [
        Suppressed(WINDOW, 3, 110, 120, 0)
    ]
    assert list(suppression.over(None)) == []


def test_a_slot_has_one_window(table: Map) -> None:
    suppression = Suppression(table)
    for n in range(table.max_entries):
        suppression.open(SIGNATURE + (n << 32), WINDOW, 500 * GRAIN)
    assert len(suppression) == table.max_entries
    suppress_in_kernel(table, suppressed=1, first_ns=110, last_ns=110)
    found = [
        suppressed
        for n in range(table.max_entries)
        for suppressed in suppression.open(SIGNATURE + (n << 32) ^ 1, LATER, 600 * GRAIN)
    ]
    assert found == [Suppressed(WINDOW, 1, 110, 110, 0)]
    assert len(suppression) == table.max_entries
    assert not suppression.suppresses(SIGNATURE, 100)
    assert suppression.suppresses(SIGNATURE ^ 1, 100)
    assert list(suppression.over(500 * GRAIN)) == []
    assert len(suppression) == table.max_entries
    list(suppression.over(600 * GRAIN))
    assert len(suppression) == 0


def test_a_window_ends_in_the_kernel_a_little_before_its_end(table: Map) -> None:
    suppression = Suppression(table)
    suppression.open(SIGNATURE, WINDOW, 500 * GRAIN + GRAIN // 2)
    assert entry(table)["expires_ns"] == 500 * GRAIN
    assert not suppression.suppresses(SIGNATURE, 500 * GRAIN)


def test_an_evicted_window_suppresses_no_longer(table: Map) -> None:
    suppression = Suppression(table)
    other = SIGNATURE + (1 << 32)
    suppression.open(SIGNATURE, WINDOW, 500 * GRAIN)
    suppression.open(other, LATER, 600 * GRAIN)
    suppress_in_kernel(table, suppressed=2, first_ns=110, last_ns=120)
    suppress_in_kernel(table, other, suppressed=1, first_ns=110, last_ns=120)
    assert list(suppression.release(500 * GRAIN)) == [Suppressed(WINDOW, 2, 110, 120, 0)]
    assert set(entry(table).values()) == {0}
    assert not suppression.suppresses(SIGNATURE, 100)
    assert suppression.suppresses(other, 100)
    assert entry(table, other)["suppressed"] == 1


def test_windows_close_at_their_ends_whenever_they_were_opened(table: Map) -> None:
    suppression = Suppression(table)
    other, third = SIGNATURE + (1 << 32), SIGNATURE + (2 << 32)
    suppression.open(SIGNATURE, WINDOW, 700 * GRAIN)
    suppression.open(other, LATER, 500 * GRAIN)
    suppression.open(third, LATER, 600 * GRAIN)
    suppress_in_kernel(table, other, suppressed=1, first_ns=110, last_ns=110)
    assert list(suppression.over(500 * GRAIN)) == [Suppressed(LATER, 1, 110, 110, 0)]
    suppression.open(third, LATER, 800 * GRAIN)
    suppress_in_kernel(table, third, suppressed=1, first_ns=120, last_ns=120)
    assert list(suppression.over(700 * GRAIN)) == []
    assert len(suppression) == 1
    assert list(suppression.over(None)) == [Suppressed(LATER, 1, 120, 120, 0)]


def test_noted_ends_are_bounded(table: Map) -> None:
    suppression = Suppression(table)
    for n in range(3 * table.max_entries):
        suppression.open(SIGNATURE, WINDOW, (500 + n) * GRAIN)
    assert list(suppression.over((500 + n) * GRAIN - 1)) == []
    suppress_in_kernel(table, suppressed=1, first_ns=110, last_ns=110)
    assert list(suppression.over((500 + n) * GRAIN)) == [Suppressed(WINDOW, 1, 110, 110, 0)]


def test_a_withdrawn_window_suppresses_no_longer(table: Map) -> None:
    suppression = Suppression(table)
    suppression.open(SIGNATURE, WINDOW, 500 * GRAIN)
    suppress_in_kernel(table, suppressed=2, first_ns=110, last_ns=120)
    assert list(suppression.withdraw(SIGNATURE ^ 1)) == []
    assert entry(table)["suppressed"] == 2
    assert list(suppression.withdraw(SIGNATURE)) == [Suppressed(WINDOW, 2, 110, 120, 0)]
    assert set(entry(table).values()) == {0}
    assert len(suppression) == 0
