"""Each technique of docs/evasion.md, tried live: what the decky took, and what was reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.loader.signatures import known_signatures
from tests.differential import live
from tests.differential.live_cases import Case, Direction, Stage
from tests.differential.techniques import TECHNIQUES, Technique
from tests.support.shared import CHECKOUT

EVASION = Path("docs/evasion.md")
SECTION = "\n## Techniques, tried live\n"


def row(technique: Technique) -> str:
    """The row of a technique in the documentation."""
    anomalies = ", ".join(f"`{name}`" for name in technique.anomaly.split())
    name = technique.name + ("" if technique.lateral else " ¹")
    return f"| {name} | {technique.took} | {technique.copy} | {anomalies} |"


def test_the_documented_table_has_every_technique() -> None:
    section = (CHECKOUT / EVASION).read_text().partition(SECTION)[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert rows == [row(technique) for technique in TECHNIQUES]


def cases() -> list[Case]:
    """Each technique in every direction that it has, with IPv4 and IPv6 in turn."""
    made: list[Case] = []
    for technique in TECHNIQUES:
        for direction in Direction:
            if technique.client is (direction == Direction.OUTBOUND):
                continue
            if direction == Direction.INBOUND and technique.client is False:
                continue
            if direction == Direction.LATERAL and not technique.lateral:
                continue
            number = len(made)
            family = technique.family or (4 if number % 2 else 6)
            made.append(Case(number, direction, family, [technique]))
    return made


CASES = cases()


@pytest.fixture(scope="module")
def found() -> Iterator[dict[int, live.Found]]:
    with Lab() as lab, Stage(lab) as stage:
        yield live.capture(stage, lab, CASES)[0]


@pytest.mark.root
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.names}, {case.direction}")
def test_what_a_decky_took_is_what_is_reported(case: Case, found: dict[int, live.Found]) -> None:
    (technique,) = case.techniques
    events = found[case.number]
    assert live.copy_read(case) == technique.took, case.read
    assert live.copy_reported(case, events) == technique.copy
    expected = set(technique.anomaly.split())
    if not known_signatures().get(technique.needs, True):
        expected.clear()
    if not case.from_peer:
        expected.discard("contested_hello")
    assert set(live.anomalies(events)) == expected
    if technique.reported is None:
        assert live.judge(case, events) == set()
