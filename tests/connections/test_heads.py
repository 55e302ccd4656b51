"""Connections with SSH under way: their ends, their bounds, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deckwire.abi.samples import SegmentSample
from deckwire.connections import heads as heads_module
from deckwire.connections.heads import Heads
from deckwire.tcp.flow import FlowRecord, SideRecord
from tests.support.ssh_wire import CLIENT, SERVER, SERVER_BANNER

BANNER = SERVER_BANNER + b"\r\n"


def sample(number: int, sender: int, payload: bytes, *, midstream: bool = False) -> SegmentSample:
    """The first bytes of an end of one connection of many."""
    return SegmentSample(
        time_ns=number,
        born_ns=number,
        key=number.to_bytes(36, "big"),
        sender=sender,
        client=0,
        midstream=midstream,
        seq=1_000,
        start_seq=1_000,
        payload=payload,
        claimed=len(payload),
        head="ssh",
    )


@pytest.fixture
def heads() -> Iterator[Heads]:
    made = Heads()
    yield made
    while made.end_any() is not None:
        pass
    assert len(made) == 0
    assert made.held == 0


def test_a_connection_is_closed_when_both_ends_were_reported(heads: Heads) -> None:
    assert heads.add(sample(1, 1, SERVER)) is not None
    found = heads.add(sample(1, 0, CLIENT))
    assert found is not None
    assert len(found[1]) == 1
    assert len(heads) == 0
    assert heads.add(sample(1, 0, CLIENT)) is None
    assert heads.counters.opened == 1
    assert heads.end(found[0].key, found[0].born_ns) is None


def test_an_end_reports_the_rest(heads: Heads) -> None:
    heads.add(sample(1, 1, BANNER))
    found = heads.end(sample(1, 1, b"").key, 1)
    assert found is not None
    assert [one.banner for one in found[1]] == [SERVER_BANNER]
    assert heads.end(sample(1, 1, b"").key, 1) is None


@pytest.mark.parametrize("bound", ["HEADS", "HEADS_BYTES"])
def test_the_one_silent_for_longest_is_evicted_and_reported(
    heads: Heads, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    heads.add(sample(1, 1, BANNER))
    size = heads.held
    monkeypatch.setattr(heads_module, bound, 3 if bound == "HEADS" else 3 * size)
    for number in (2, 3):
        heads.add(sample(number, 1, BANNER))
    heads.add(sample(1, 1, b""))
    assert heads.over_bounds() is None
    heads.add(sample(4, 1, BANNER))
    found = heads.over_bounds()
    assert found is not None
    assert found[0].born_ns == 2
    assert [one.banner for one in found[1]] == [SERVER_BANNER]
    assert heads.over_bounds() is None
    assert heads.counters.evicted == 1


def test_those_whose_handshake_was_not_seen_are_evicted_first(
    heads: Heads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_module, "HEADS", 3)
    for number in range(1, 9):
        heads.add(sample(number, 1, BANNER, midstream=number % 2 == 0))
        while heads.over_bounds() is not None:
            pass
    assert [heads.end(sample(number, 1, b"").key, number) is not None for number in (1, 3, 5)] == [
        *(False, True, True)
    ]


def record_of(number: int, *heads: int) -> FlowRecord:
    """The record of connection `number`, of which the kernel suppressed these signatures."""
    sides = (SideRecord(1, 1, 0), SideRecord(1, 1, 0))
    return FlowRecord(
        *(number, number + 5, None, None, "fin", False, False, 0, sides, None, None, None),
        heads=(heads[0], heads[1]),
    )


def test_what_the_kernel_suppressed_is_reported_at_the_end() -> None:
    heads = Heads({7: BANNER}.get)
    key = sample(1, 0, b"").key
    assert heads.recall(key, record_of(1, 0, 7)) is not None
    assert heads.held > 0
    found = heads.end(key, 1)
    assert found is not None
    assert [(one.banner, one.time_ns) for one in found[1]] == [(SERVER_BANNER, 6)]
    assert (len(heads), heads.held) == (0, 0)


def test_what_is_recalled_joins_what_was_sampled() -> None:
    heads = Heads({7: BANNER}.get)
    heads.add(sample(1, 0, CLIENT))
    key = sample(1, 0, b"").key
    heads.recall(key, record_of(1, 0, 7))
    found = heads.end(key, 1)
    assert found is not None
    assert [one.banner for one in found[1]] == [SERVER_BANNER]
    assert heads.held == 0


def test_nothing_of_a_connection_that_was_reported_is_recalled(heads: Heads) -> None:
    heads.add(sample(1, 1, SERVER))
    heads.add(sample(1, 0, CLIENT))
    assert heads.recall(sample(1, 0, b"").key, record_of(1, 7, 7)) is None
