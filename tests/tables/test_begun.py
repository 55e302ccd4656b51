"""What deckies send on their own, on the real map: what is read, and when it is read again."""

from __future__ import annotations

import pytest

from deckwire.abi import structs as abi
from deckwire.tables.begun import BegunTable
from tests.bpf.test_probes import UDP, udp
from tests.support.bpf_frames import CLIENT, DECKY, DECKY_B, ethernet, ipv4
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

S = 1_000_000_000


@pytest.fixture
def table(lab: ReplayLab) -> BegunTable:
    lab.frames([], [DECKY, DECKY_B])
    return BegunTable(lab.loaded.maps)


def send(lab: ReplayLab, port: int, at_ns: int, decky: str = DECKY) -> None:
    frame = ethernet(ipv4(udp(50_000, port), decky, CLIENT, protocol=UDP))
    lab.loaded.programs["tc_egress"].test_run(frame, tstamp=at_ns)


def read(table: BegunTable) -> list[tuple[int, int, int]]:
    return [(one.port, one.datagrams, one.time_ns) for one in table.changed()]


def test_what_is_new_is_read_once_and_by_time(lab: ReplayLab, table: BegunTable) -> None:
    assert read(table) == []
    for port, second in ((53, 5), (123, 4), (53, 6)):
        send(lab, port, second * S)
    assert read(table) == [(123, 1, 4 * S), (53, 2, 5 * S)]
    assert read(table) == []
    for second in (70, 71):
        send(lab, 123, second * S)
    assert read(table) == [(123, 2, 71 * S)]


def test_a_slot_that_is_written_just_now_is_read_later(lab: ReplayLab, table: BegunTable) -> None:
    send(lab, 53, 5 * S)
    slots = lab.loaded.maps["begun_by_deckies"]
    ((key, value),) = [(key, value) for key, value in slots.items() if any(value)]
    lock = abi.BEGUN_LAST_NS + 16
    slots.update(key, value[:lock] + b"\1" + value[lock + 1 :])
    assert read(table) == []
    slots.update(key, value)
    assert read(table) == [(53, 1, 5 * S)]


def test_a_slot_that_is_written_after_the_count_is_read_next(
    lab: ReplayLab, table: BegunTable
) -> None:
    slots = lab.loaded.maps["begun_by_deckies"]
    assert read(table) == []
    send(lab, 53, 5 * S)
    ((key, value),) = [(key, value) for key, value in slots.items() if any(value)]
    slots.update(key, bytes(len(value)))
    assert read(table) == []
    slots.update(key, value)
    assert read(table) == [(53, 1, 5 * S)]


def test_entries_that_were_replaced_unread_are_counted(lab: ReplayLab, table: BegunTable) -> None:
    slots = lab.loaded.maps["begun_by_deckies"]
    send(lab, 53, 5 * S)
    ((key, value),) = [(key, value) for key, value in slots.items() if any(value)]
    assert read(table) == [(53, 1, 5 * S)]
    turn = len(value) - 3
    later = value[: abi.BEGUN_LAST_NS] + (9 * S).to_bytes(8, "little")
    slots.update(key, later + value[len(later) : turn] + b"\4" + value[turn + 1 :])
    assert [port for port, _, _ in read(table)] == [53]
    assert table.unread == 2
