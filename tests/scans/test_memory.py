"""memory: scans survive in a file, and no content of the file does harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.abi.sources import ProbeKind
from deckwire.limits import SCANS_SAVED
from deckwire.scans.author import Author
from deckwire.scans.memory import ForeignMemory, dump, load
from deckwire.scans.scan import Scan
from tests.fuzz.targets.scans import check, seeds
from tests.support.scanning import ATTACKER, CLOSED, DECKIES, OPEN, S, packed, source, target

AHEAD_NS = 1_700_000_000 * S
"""Wall-clock time less the time of the samples' clock."""


def wall(time_ns: int) -> int:
    return time_ns + AHEAD_NS


def kernel(wall_ns: int) -> int:
    return wall_ns - AHEAD_NS


def whole() -> Scan:
    scan = Scan(packed(ATTACKER), 5 * S)
    scan.scan_id = "0123456789abcdef"
    targets = [
        target(22, answers=OPEN, first_ns=5 * S),
        target(443, DECKIES[1], answers=CLOSED, first_ns=6 * S),
        target(53, "2001:db8::1", protocol=17, kind=ProbeKind.UDP, first_ns=7 * S),
    ]
    scan.take(source(targets, first_ns=5 * S, mac=b"\2\0\0\0\0\1", lost=3), 100)
    scan.author = Author("nmap", "SYN scan", "Linux", "1024_2_1460_00")
    scan.begun, scan.next_growth = True, 50
    return scan


def facts(scan: Scan) -> list[object]:
    names = ("address", "scan_id", "first_ns", "last_ns", "mac", "probes", "proven", "author")
    more = ("begun", "next_growth", "estimate", "exact")
    return [*(getattr(scan, name) for name in names + more), list(scan.targets())]


def test_a_scan_survives() -> None:
    scan = whole()
    # Another boot: the samples' clock began anew, an hour later.
    (again,), faults = load(dump([scan], wall), lambda wall_ns: kernel(wall_ns) - 3_600 * S)
    assert faults == 0
    again.first_ns += 3_600 * S
    again.last_ns += 3_600 * S
    assert facts(again) == facts(scan)


def test_a_scan_whose_targets_had_no_room_stays_inexact() -> None:
    scan = Scan(packed(ATTACKER), S)
    scan.take(source([target(port) for port in range(9)]), 4)
    (again,), _ = load(dump([scan], wall), kernel)
    assert (again.exact, again.estimate, len(again)) == (False, 9, 4)


def test_the_scans_that_were_active_last_are_kept() -> None:
    scans = []
    for number in range(SCANS_SAVED + 2):
        scan = Scan(packed("2001:db8::1"), number)
        scans.append(scan)
    kept, faults = load(dump(reversed(scans), wall), kernel)
    assert faults == 0
    assert [scan.last_ns for scan in kept] == list(range(2, SCANS_SAVED + 2))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "another version wrote it"),
        (b'{"version": 2, "scans": []}', "another version wrote it"),
        (b'{"version": 1}', "it has no list of scans"),
    ],
)
def test_what_is_no_file_of_scans(content: bytes, why: str) -> None:
    with pytest.raises(ForeignMemory, match=why):
        load(content, kernel)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "x"},
        {"source": "nowhere"},
        {"source": 7},
        {"mac": "02"},
        {"first": -1},
        {"first": 1 << 64},
        {"last": True},
        {"probes": {"TELNET": 1}},
        {"probes": [1]},
        {"next": 2},
        {"author": ["a", "b"]},
        {"author": ["a\nb", "", "", ""]},
        {"author": ["a" * 257, "", "", ""]},
        {"source": "00"},
        {"deckies": []},
        {"deckies": ["00"] * 3},
        {"deckies": ["00" * 16] * 3},
        {"targets": [3 << 24, 1, 2]},
        {"targets": [-1, 1, 2]},
        {"targets": [1, 2]},
        {"found": [0, 1, 1]},
        {"found": [1 << 23, 1, 1]},
        {"targets": 7},
    ],
)
def test_a_wrong_scan_is_left_out_and_the_others_are_taken(change: dict[str, Any]) -> None:
    document = json.loads(dump([whole()], wall))
    entry = document["scans"][0]
    document["scans"] = [{**entry, **change}, 7, None, entry]
    (scan,), faults = load(json.dumps(document).encode(), kernel)
    assert faults == 3
    assert facts(scan) == facts(whole())


@given(st.data())
def test_no_change_of_a_file_breaks_it(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(seeds())))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    check(bytes(content))
