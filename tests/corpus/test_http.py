"""JA4H of requests equals that of independent tools."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from deckwire.captures import CaptureError, CaptureFile, ethernet
from deckwire.tables.tables import Tables
from tests.support.fingerprint_frames import syns_of
from tests.support.live_wire import Segment, parse_frame
from tests.support.protocols import PROTOCOLS, expected, plain
from tests.support.replaying import ReplayLab
from tests.support.sequences import Four, sequence_fields

pytestmark = pytest.mark.root

BUDGET = 4_096
REFUSED = {
    ("arkime-tcp-reassembly-synthetic.pcap", 40_010, 0),
    ("suri-http-pipeline-files-with-gap_input.pcap", 51_001, 2),
}
"""By capture, port of the client and number of the request. Each acknowledges a byte that the
server has not sent, so a receiver drops it (RFC 9293, 3.10.7.4). In the first, the SYN-ACK has
number 2^32 - 2, and the request acknowledges 0. The second lacks 733 bytes of the server."""
_EVERY = 1 if os.environ.get("DECKWIRE_WHOLE_CORPUS") else 16
"""The suite replays one of so many captures; all of them take minutes."""


ENTRIES = expected("http")
NAMES = sorted(
    name
    for number, name in enumerate(sorted(ENTRIES))
    if number % _EVERY == 0
    or "tfo" in name
    or (any(entry["kind"] == "method-other" for entry in ENTRIES[name]))
)


def address(text: str) -> str:
    """An address of the expected values as events have it."""
    parsed = ip_address(text)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def four_of(entry: dict[str, Any]) -> Four:
    stream = entry["stream"]
    return address(stream["src"]), stream["sport"], address(stream["dst"]), stream["dport"]


def segments(path: Path, four: Four) -> list[Segment]:
    """What the client of a connection sent."""
    found = []
    with suppress(CaptureError), CaptureFile(path) as capture:
        for frame in capture:
            framed = ethernet(frame)
            one = None if framed is None else parse_frame(framed)
            if one is not None and (one.src, one.sport, one.dst, one.dport) == four:
                found.append(one)
    return found


def offset(path: Path, entry: dict[str, Any]) -> int:
    """Where a request begins in its client's bytes; beyond the budget if it is not found."""
    stream = bytearray(1 << 20)
    first = None
    end = 0
    for one in segments(path, four_of(entry)):
        if one.flags & 2:
            first = one.seq + 1
        if first is None:
            continue
        at = (one.seq + bool(one.flags & 2) - first) & 0xFFFF_FFFF
        if at < len(stream) - len(one.start):
            stream[at : at + len(one.start)] = one.start
            end = max(end, at + len(one.start))
    # Several requests of a connection may have the same line.
    same = [
        one
        for one in ENTRIES[entry["pcap"]]
        if one["stream"] == entry["stream"]
        and one["request_line"] == entry["request_line"]
        and one["request"] < entry["request"]
    ]
    at = -1
    for _ in range(len(same) + 1):
        at = stream.find(entry["request_line"].encode("latin-1"), at + 1, end)
        if at < 0:
            return BUDGET
    return at


@pytest.fixture
def as_captured(lab: ReplayLab) -> Iterator[ReplayLab]:
    """Takes any checksum: captures of the sender itself have those that its card replaces."""
    tables = Tables(lab.loaded.maps)
    tables.change_settings({"checksums": 0})
    yield lab
    tables.change_settings({"checksums": 1})


@pytest.mark.skipif(not ENTRIES, reason="the captures of other protocols are not installed")
@pytest.mark.parametrize("name", NAMES)
def test_all_values_are_as_expected(name: str, as_captured: ReplayLab, tmp_path: Path) -> None:
    path = plain(PROTOCOLS / "pcap" / name, tmp_path)
    deckies = sorted({four_of(entry)[2] for entry in ENTRIES[name]})
    found: dict[tuple[Four, int], list[dict[str, Any]]] = defaultdict(list)
    for event in as_captured.capture(path, deckies):
        if event.name == "http_request":
            fields = dict(event.fields)
            four: Any = tuple(fields[n] for n in ("src_ip", "src_port", "dst_ip", "dst_port"))
            found[four, int(event.subject.split()[-1])].append(fields)
    opened = sequence_fields(syns_of(path))
    wrong = []
    for entry in ENTRIES[name]:
        four = four_of(entry)
        values = {fields.get("ja4h") for fields in found.get((four, entry["request"]), ())}
        if entry["value"] in values or (name, four[1], entry["request"]) in REFUSED:
            continue
        if not values - {None} and (
            # Only of connections whose SYN was seen is the beginning sampled.
            four not in opened or offset(path, entry) + entry["head_bytes"] > BUDGET
        ):
            continue
        wrong.append(f"{four} {entry['request']}: {values}, not {entry['value']}")
    assert not wrong, "\n".join(wrong)
