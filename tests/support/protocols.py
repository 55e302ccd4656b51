"""Captures of other protocols than TLS, with values that independent tools confirm."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.shared import SHARED

PROTOCOLS = SHARED / "protocols"


def expected(group: str) -> dict[str, list[dict[str, Any]]]:
    """The expected values of a group by the name of the capture; empty without the captures."""
    path = PROTOCOLS / "expected" / f"{group}.json"
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in json.loads(path.read_text()) if path.exists() else ():
        found[entry["pcap"]].append(entry)
    return found


def plain(path: Path, directory: Path) -> Path:
    """The capture, decompressed if it is compressed."""
    if path.suffix != ".gz":
        return path
    unpacked = directory / path.stem
    unpacked.write_bytes(gzip.decompress(path.read_bytes()))
    return unpacked


def every_stream() -> Iterator[dict[str, Any]]:
    """The streams of all groups, a stream once for each value of it."""
    for path in sorted((PROTOCOLS / "expected").glob("*.json")):
        for entry in json.loads(path.read_text()):
            yield entry["stream"]
