"""Each technique of docs/evasion.md, tried live: what the decky took, and what was reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.loader.signatures import known_signatures
from tests.differential import live
from tests.differential.live_cases import Case, Direction, Stage
from tests.differential.techniques import TECHNIQUES, WHOLE, Copy, Technique
from tests.support.shared import CHECKOUT
from tests.support.watching import final_sums

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


COMBINED = (
    ("a SYN instead of a SYN-ACK (split handshake)", "a decoy with a wrong TCP checksum"),
    ("a SYN instead of a SYN-ACK (split handshake)", "a FIN with a wrong checksum"),
    ("a SYN instead of a SYN-ACK (split handshake)", "an RST with a wrong checksum"),
    ("a decoy with a wrong ACK of the SYN-ACK", "an RST one byte ahead"),
)
"""Techniques that together were once reported in another way than the decky took them."""


def combined_cases(first: int) -> list[Case]:
    """In every direction that they have, also of a peer that offloads."""
    by_name = {technique.name: technique for technique in TECHNIQUES}
    made: list[Case] = []
    for names in COMBINED:
        chosen = [by_name[name] for name in names]
        roles = {technique.client for technique in chosen} - {None}
        near = Direction.OUTBOUND if roles == {False} else Direction.INBOUND
        for direction in (near, Direction.LATERAL):
            for family in (4, 6):
                made.append(Case(first + len(made), direction, family, chosen))
    return made


CASES = cases()
CASES_COMBINED = combined_cases(len(CASES))
FIRST, SOURCES = 1_000, {4: 900, 6: 901}
"""Numbers of the cases with suppression on, and their two sources."""


def suppressed_cases() -> list[Case]:
    """Inbound cases of two sources, whose decoy is the hello that is known of that source."""
    chosen = [
        each
        for each in TECHNIQUES
        # With Fast Open, the decky may answer before the handshake is complete.
        if each.client is not False and each.reported is None and not each.fast_open
    ]
    made = []
    for number, technique in enumerate(chosen, FIRST + 10):
        family = technique.family or (4 if number % 2 else 6)
        known = first_case(family).message()
        made.append(
            Case(
                number, Direction.INBOUND, family, [technique], source=SOURCES[family], known=known
            )
        )
    return made


def first_case(family: int, times: int = 0) -> Case:
    """The plain connection that makes its hello known. Later times differ in their port."""
    number = FIRST + family
    return Case(number, Direction.INBOUND, family, [WHOLE], source=SOURCES[family], again=times)


SUPPRESSED = suppressed_cases()


@pytest.fixture(scope="module")
def found() -> Iterator[dict[int, live.Found]]:
    with Lab() as lab, Stage(lab) as stage:
        yield live.capture(stage, lab, [*CASES, *CASES_COMBINED])[0]


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


@pytest.mark.root
@pytest.mark.parametrize("case", CASES_COMBINED, ids=lambda case: f"{case.names}, {case.direction}")
def test_what_a_decky_took_of_several(case: Case, found: dict[int, live.Found]) -> None:
    assert live.copy_read(case) == Copy.TRUE, case.read
    assert live.judge(case, found[case.number]) == set()


@pytest.fixture(scope="module")
def suppressing() -> Iterator[AgentProcess]:
    """An agent that ran with its default settings while these cases were played."""
    with Lab() as lab, Stage(lab) as stage:
        agent = AgentProcess(lab)
        for times in range(3):
            known = [first_case(family, times) for family in SOURCES]
            stage.play(known)
            for case in known:
                agent.expect("tls_client_hello", sni=case.name())
        stage.play(SUPPRESSED)
        names = {case.name() for case in SUPPRESSED if is_taken(case)}
        agent.wait(lambda: names <= names_of(agent, "tls_session"), "every session")
        assert agent.stop() == 0
        assert final_sums(agent)["hellos_suppressed"] >= 4
        yield agent


def is_taken(case: Case) -> bool:
    return case.techniques[0].took == Copy.TRUE


def names_of(agent: AgentProcess, event: str) -> set[str]:
    return {each["fields"].get("sni", "") for each in agent.find(event)}


@pytest.mark.root
@pytest.mark.parametrize("case", SUPPRESSED, ids=lambda case: f"{case.names}, known")
def test_a_known_hello_as_a_decoy_conceals_nothing(case: Case, suppressing: AgentProcess) -> None:
    """The kernel side suppresses the decoy. The hello that the decky took is a new one."""
    assert live.copy_read(case) == case.techniques[0].took
    hellos = suppressing.find("tls_client_hello", sni=case.name())
    assert len(hellos) == is_taken(case)
    assert len(suppressing.find("tls_session", sni=case.name())) == is_taken(case)
    for event in hellos:
        assert event["fields"]["src_port"] == case.port
        assert event["fields"]["ja3"] == live.fingerprints(case.message(), b"")[0]


@pytest.mark.root
def test_a_known_hello_is_emitted_once(suppressing: AgentProcess) -> None:
    for family in SOURCES:
        assert len(suppressing.find("tls_client_hello", sni=first_case(family).name())) == 1
