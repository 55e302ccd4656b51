"""scans.memory.load: the scans that are right, or one reason."""

from __future__ import annotations

import json

from deckwire.abi.sources import ProbeKind
from deckwire.limits import SCAN_TARGETS, SCANS_SAVED
from deckwire.scans.author import Author
from deckwire.scans.memory import ForeignMemory, dump, load
from deckwire.scans.scan import Scan
from tests.support.scanning import ATTACKER, OPEN, S, packed, source, target


def seeds() -> list[bytes]:
    made = []
    for address in (ATTACKER, "2001:db8::9"):
        scan = Scan(packed(address), S)
        scan.scan_id = "0123456789abcdef"
        found = [target(22, answers=OPEN), target(0, protocol=1, kind=ProbeKind.ICMP_ECHO)]
        scan.take(source([*found, target(53, "2001:db8::1", protocol=17)], address), 10)
        scan.author = Author("nmap", "SYN scan; window 1024", "Linux 3.11", "1024_2_1460_00")
        made.append(scan)
    made[1].begun, made[1].next_growth, made[1].mac = True, 50, b"\2\0\0\0\0\1"
    whole = dump(made, lambda time_ns: time_ns)
    return [
        whole,
        *(whole.replace(b'"version":1', b'"version":2'), whole[:-1], b"{}", b"[]", b"[" * 90),
        *(b'{"version":1,"scans":[1,{},[],null]}', b'{"version":1,"scans":{}}', b"\xff"),
    ]


def check(data: bytes) -> None:
    try:
        scans, faults = load(data, lambda wall_ns: wall_ns - S)
    except ForeignMemory:
        return
    assert faults >= 0
    assert len(scans) <= SCANS_SAVED
    for scan in scans:
        assert len(scan.address) == 16
        assert len(list(scan.targets())) <= scan.estimate
        assert len(scan) <= SCAN_TARGETS
        assert scan.first_ns <= scan.last_ns
        assert all(text.isprintable() for text in (scan.scan_id, *scan.author))
        assert not scan.begun or scan.next_growth > scan.estimate
    written = dump(scans, lambda time_ns: time_ns + S)
    again, none = load(written, lambda wall_ns: wall_ns - S)
    assert none == 0
    assert dump(again, lambda time_ns: time_ns + S) == written
    # One more good scan before the others changes nothing about them.
    document = json.loads(written)
    document["scans"].insert(0, json.loads(seeds()[0])["scans"][0])
    more, none = load(json.dumps(document).encode(), lambda wall_ns: wall_ns - S)
    assert none == max(len(document["scans"]) - SCANS_SAVED, 0)
    assert len(more) == min(len(again) + 1, SCANS_SAVED)
