"""Ports that answer SYN scans, or refuse them for good."""

from __future__ import annotations

from deckwire.connections.probed_ports import CLOSED_NS, ProbedPorts
from deckwire.limits import PROBED_PORTS

S = 1_000_000_000
PORT = (bytes(15) + b"\1", 22)


def refused(ports: ProbedPorts, refused_s: float, now_s: float) -> int | None:
    return ports.refused(PORT, round(refused_s * S), round(now_s * S))


def test_a_refusal_is_no_finding_until_there_is_another_one_later() -> None:
    ports = ProbedPorts()
    assert refused(ports, 10, 11) is None
    assert refused(ports, 30, 31) is None
    assert refused(ports, 41, 42) == 30 * S
    assert refused(ports, 50, 51) == 39 * S


def test_a_record_that_is_read_again_is_no_other_refusal() -> None:
    ports = ProbedPorts()
    for now_s in range(11, 500, 10):
        assert refused(ports, 10, now_s) is None


def test_a_record_that_is_read_late_makes_no_time() -> None:
    """The second source was refused a second after the first one."""
    ports = ProbedPorts()
    assert refused(ports, 10, 11) is None
    assert refused(ports, 12, 90) is None


def test_an_answer_to_anybody_begins_anew() -> None:
    ports = ProbedPorts()
    assert refused(ports, 10, 11) is None
    ports.answered(PORT)
    assert refused(ports, 60, 61) is None
    assert ports.opened(PORT, 70 * S)
    assert refused(ports, 110, 111) is None
    assert refused(ports, 111 + CLOSED_NS // S, 150) == CLOSED_NS


def test_an_answer_counts_once_for_each_source() -> None:
    ports = ProbedPorts()
    assert ports.opened(PORT, 5 * S)
    assert not ports.opened(PORT, 5 * S)
    assert ports.opened(PORT, 6 * S)
    assert not ports.opened(PORT, 5 * S)


def test_the_tables_are_bounded() -> None:
    ports = ProbedPorts()
    assert refused(ports, 10, 11) is None
    for number in range(PROBED_PORTS):
        ports.refused((b"x" * 16, number), 10 * S, 11 * S)
    assert refused(ports, 100, 101) is None
    assert ports.opened(PORT, 5)
    for number in range(PROBED_PORTS):
        assert ports.opened((b"x" * 16, number), 5)
    assert ports.opened(PORT, 5)
