"""Scans under way as the content of a file, for the agent that runs next.

The file holds wall-clock times, because the samples' clock begins anew with each boot.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deckwire.abi.sources import ProbeKind
from deckwire.limits import SCANS_SAVED
from deckwire.scans.author import Author
from deckwire.scans.scan import Scan

VERSION = 1
"""Of the form of the file. A file of another version is left out."""

_ID = re.compile(r"([0-9a-f]{16})?")
_TEXT = 256
"""Longest text of a tool, its evidence or a system."""
_COUNT = 1 << 64
"""What no counter of the kernel reaches."""


_FAULTS = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
"""What reading an entry raises that has another shape."""


class ForeignMemory(Exception):
    """The content is none of this version. The text says why."""


def dump(scans: Iterable[Scan], wall_ns: Callable[[int], int]) -> bytes:
    """The scans that were active last, as a file."""
    kept = sorted(scans, key=lambda scan: scan.last_ns)[-SCANS_SAVED:]
    entries = [_entry(scan, wall_ns) for scan in kept]
    return json.dumps({"version": VERSION, "scans": entries}, separators=(",", ":")).encode()


def load(content: bytes, kernel_ns: Callable[[int], int]) -> tuple[list[Scan], int]:
    """The scans of a file, and how many of its entries cannot be read.

    `kernel_ns` converts a wall-clock time. Raises ForeignMemory if nothing can be read.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ForeignMemory("it is no JSON") from None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ForeignMemory("another version wrote it")
    entries = document.get("scans")
    if not isinstance(entries, list):
        raise ForeignMemory("it has no list of scans")
    scans, faults = [], max(len(entries) - SCANS_SAVED, 0)
    for entry in entries[-SCANS_SAVED:]:
        try:
            scans.append(_scan(entry, kernel_ns))
        except _FAULTS:
            faults += 1
    return scans, faults


def _entry(scan: Scan, wall_ns: Callable[[int], int]) -> dict[str, Any]:
    deckies, targets = scan.memory
    return {
        "id": scan.scan_id,
        "source": scan.address.hex(),
        "mac": scan.mac.hex(),
        "first": wall_ns(scan.first_ns),
        "last": wall_ns(scan.last_ns),
        "probes": {kind.name: count for kind, count in scan.probes.items() if count},
        "proven": scan.proven,
        "begun": scan.begun,
        "next": scan.next_growth,
        "estimate": scan.estimate,
        "lost": scan.lost + (not scan.lost and not scan.exact),
        "author": [text[:_TEXT] for text in scan.author],
        "deckies": [decky.hex() for decky in deckies],
        # As they are kept in memory, because the loop of the capture waits for this.
        "targets": list(targets),
        "found": list(targets.values()),
    }


def _scan(entry: Mapping[str, Any], kernel_ns: Callable[[int], int]) -> Scan:
    """One entry; it raises one of _FAULTS if it is none."""
    scan_id, address = entry["id"], bytes.fromhex(entry["source"])
    if not isinstance(scan_id, str) or not _ID.fullmatch(scan_id) or len(address) != 16:
        raise ValueError("source")
    first, last = _number(entry["first"]), _number(entry["last"])
    scan = Scan(address, kernel_ns(min(first, last)))
    scan.scan_id = scan_id
    scan.last_ns = kernel_ns(last)
    scan.mac = bytes.fromhex(entry["mac"])
    if len(scan.mac) not in (0, 6):
        raise ValueError("mac")
    scan.probes = Counter(
        {ProbeKind[name]: _number(count) for name, count in entry["probes"].items()}
    )
    scan.proven = entry["proven"] is True
    scan.begun = entry["begun"] is True
    scan.next_growth = _number(entry["next"])
    scan.lost = _number(entry["lost"])
    tool, evidence, system, ja4t = map(_text, entry["author"])
    scan.author = Author(tool, evidence, system, ja4t)
    targets = map(_number, entry["targets"])
    found = map(_number, entry["found"])
    scan.restore(
        [bytes.fromhex(text) for text in entry["deckies"]], dict(zip(targets, found, strict=True))
    )
    scan.estimate = max(scan.estimate, _number(entry["estimate"]))
    if scan.begun and scan.next_growth <= scan.estimate:
        raise ValueError("next")
    return scan


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _COUNT:
        raise ValueError("number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _TEXT or not value.isprintable():
        raise ValueError("text")
    return value
