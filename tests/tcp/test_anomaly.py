"""The vocabulary of tcp_anomaly."""

from __future__ import annotations

import re
from pathlib import Path

from deckwire.tcp.anomaly import (
    BELIEVED,
    KERNEL_TECHNIQUES,
    Technique,
    flag_letters,
    segment_evidence,
)

EVENTS = Path(__file__).parents[2] / "docs" / "events.md"


def test_each_technique_says_what_was_believed() -> None:
    assert set(BELIEVED) == set(Technique)


def test_each_technique_has_its_row_in_the_docs() -> None:
    section = EVENTS.read_text().partition("## tcp_anomaly\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert rows[1:] == [technique.value for technique in Technique]


def test_the_kernel_has_the_first_ones() -> None:
    assert KERNEL_TECHNIQUES[0] is None
    assert list(KERNEL_TECHNIQUES[1:]) == list(Technique)[: len(KERNEL_TECHNIQUES) - 1]


def test_flags() -> None:
    assert flag_letters(0) == "none"
    assert flag_letters(0x18) == "PA"
    assert flag_letters(0x1FF) == "FSRPAUECN"


def test_evidence() -> None:
    assert segment_evidence(0x04, 5, 6, 0, None) == "flags R seq 5 ack 6 bytes 0"
    assert (
        segment_evidence(0x10, 5, 6, 1, (7, 8))
        == "flags A seq 5 ack 6 bytes 1, expected seq 7 ack 8"
    )
