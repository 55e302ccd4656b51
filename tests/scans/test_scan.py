"""Scan: successive records of one source add up to one scan, whatever the kernel keeps of it."""

from __future__ import annotations

from deckwire.abi.sources import ProbeKind, Target
from deckwire.limits import SCAN_TARGETS
from deckwire.scans.scan import Scan
from tests.support.scanning import ATTACKER, CLOSED, DECKIES, OPEN, S, packed, source, target

ROOM = 1 << 20


def scan() -> Scan:
    return Scan(packed(ATTACKER), S)


def ports(found: Scan) -> list[int]:
    return [port for (_, _, port), _, _ in found.targets()]


def test_a_record_read_twice_counts_once() -> None:
    found = scan()
    record = source([target(22), target(80)], probes={ProbeKind.SYN: 7})
    for _ in range(3):
        found.take(record, ROOM)
    assert found.probes == {ProbeKind.SYN: 7}
    assert (ports(found), found.estimate, found.exact) == ([22, 80], 2, True)


def test_what_a_record_gains_is_added() -> None:
    found = scan()
    found.take(source([target(22)]), ROOM)
    more = [target(22, answers=OPEN), target(23, kind=ProbeKind.FIN, first_ns=3 * S)]
    found.take(source(more, last_ns=4 * S, mac=b"\2\0\0\0\0\1", proven=True), ROOM)
    assert found.probes == {ProbeKind.SYN: 1, ProbeKind.FIN: 1}
    assert found.kinds() == [ProbeKind.SYN, ProbeKind.FIN]
    is_open, is_closed, silent = found.answered()
    assert ([port for _, _, port in is_open], is_closed, silent) == ([22], [], 1)
    assert (found.first_ns, found.last_ns) == (S, 4 * S)
    assert (found.mac, found.proven) == (b"\2\0\0\0\0\1", True)


def test_another_record_of_the_source_goes_on_with_the_scan() -> None:
    """The kernel evicted the first one. A slow scan is one scan all the same."""
    found = scan()
    for minute in range(1, 100):
        probe = target(minute, first_ns=minute * 60 * S)
        found.take(source([probe], first_ns=minute * 60 * S), ROOM)
    assert found.probes == {ProbeKind.SYN: 99}
    assert (len(found), found.estimate, found.exact) == (99, 99, True)
    assert ports(found) == list(range(1, 100))


def test_a_port_that_is_open_and_closed_counts_as_open() -> None:
    found = scan()
    both = [target(1, answers=OPEN | CLOSED), target(2, answers=CLOSED), target(3)]
    found.take(source(both), ROOM)
    is_open, is_closed, silent = found.answered()
    assert [port for _, _, port in is_open] == [1]
    assert ([port for _, _, port in is_closed], silent) == ([2], 1)


def test_lost_targets_are_estimated() -> None:
    """64 targets are kept, two probes went to each, and 1,872 touches found no room."""
    found = scan()
    kept = [target(port) for port in range(64)]
    found.take(source(kept, probes={ProbeKind.SYN: 2_000}, lost=1_872), ROOM)
    assert (len(found), found.estimate, found.exact) == (64, 1_000, False)
    # It never gets smaller.
    found.take(source(kept, probes={ProbeKind.SYN: 20_000}, lost=1_872), ROOM)
    assert found.estimate == 1_000


def test_lost_touches_of_two_records_add_up() -> None:
    found = scan()
    found.take(source([target(1)], probes={ProbeKind.SYN: 11}, lost=10), ROOM)
    found.take(source([target(1)], probes={ProbeKind.SYN: 31}, lost=30), ROOM)
    found.take(source([target(2)], probes={ProbeKind.SYN: 6}, first_ns=9 * S, lost=5), ROOM)
    assert (found.lost, found.probes.total()) == (35, 37)


def test_without_room_targets_are_lost_and_counted_once() -> None:
    found = scan()
    record = source([target(port) for port in range(10)])
    for _ in range(3):
        found.take(record, 4 - len(found))
    assert (len(found), found.exact) == (4, False)
    assert found.estimate == 10
    # In another record the same four are known.
    found.take(source([target(port) for port in range(10)], first_ns=5 * S), 0)
    assert (len(found), found.lost) == (4, 6)


def test_a_scan_has_a_bound_of_its_own() -> None:
    found = scan()
    found.take(source([target(port) for port in range(SCAN_TARGETS + 5)]), ROOM)
    assert len(found) == SCAN_TARGETS
    assert not found.exact


def test_a_scan_after_another_leaves_out_what_that_had() -> None:
    first = scan()
    first.take(source([target(22), target(23)], probes={ProbeKind.SYN: 5}), ROOM)
    second = scan()
    second.begin_after(first.baseline)
    record = [target(22), target(23), target(24, first_ns=9_000 * S)]
    second.take(source(record, probes={ProbeKind.SYN: 6}), ROOM)
    second.take(source(record, probes={ProbeKind.SYN: 8}), ROOM)
    assert ports(second) == [24]
    assert second.probes == {ProbeKind.SYN: 3}
    # It may have touched the others again, which cannot be seen.
    assert not second.exact


def test_a_scan_after_another_of_the_same_targets_has_them() -> None:
    first = scan()
    first.take(source([target(22)], probes={ProbeKind.SYN: 5}), ROOM)
    second = scan()
    second.begin_after(first.baseline)
    second.take(source([target(22)], probes={ProbeKind.SYN: 6}, last_ns=9_000 * S), ROOM)
    assert (ports(second), second.probes.total(), second.exact) == ([22], 1, False)


def test_extreme_values_of_a_target_keep_their_place() -> None:
    found = scan()
    extreme = Target(b"\xff" * 16, 255, 65_535, (1 << len(ProbeKind)) - 1, OPEN | CLOSED, S)
    found.take(source([extreme, target(0, protocol=0)]), ROOM)
    (first, kinds, answers), (second, _, _) = found.targets()
    assert (first, kinds, answers) == ((b"\xff" * 16, 255, 65_535), extreme.kinds, extreme.answers)
    assert second[1:] == (0, 0)


def test_resolving_an_address_is_no_target_of_its_own() -> None:
    found = scan()
    sweep = [target(0, decky, protocol=0, kind=ProbeKind.ARP, answers=OPEN) for decky in DECKIES]
    found.take(source(sweep), ROOM)
    assert (found.estimate, len(list(found.targets()))) == (3, 3)
    # One of them was only resolved; the others are touched over IP too.
    over_ip = [target(22, DECKIES[0]), target(22, DECKIES[1]), target(23, DECKIES[1])]
    found.take(source([*sweep, *over_ip]), ROOM)
    assert found.estimate == 4
    assert [protocol for (_, protocol, _), _, _ in found.targets()] == [0, 6, 6, 6]
    assert found.kinds() == [ProbeKind.SYN, ProbeKind.ARP]
    assert found.answered()[2] == 3


def test_a_counter_that_begins_at_0_again_takes_nothing_away() -> None:
    """It has 32 bits."""
    scan = Scan(packed(ATTACKER), S)
    for count, total in ((2**32 - 1, 2**32 - 1), (4, 2**32 - 1), (9, 2**32 + 4)):
        scan.take(source([target(22)], probes={ProbeKind.SYN: count}), 9)
        assert scan.probes == {ProbeKind.SYN: total}
