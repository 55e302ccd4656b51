"""Foreign programs on the same interface see every frame, keep their order and stay attached."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.network import PARENT
from deckwire.lab.servers import http_server
from tests.support.hooks import HAS_TCX, Bystander, filters, tcx
from tests.support.watching import agent_with, assert_nothing_lost, fetch_plain

pytestmark = pytest.mark.root

CONNECTIONS = 5


@pytest.fixture
def bystanders() -> Iterator[list[Bystander]]:
    made = [Bystander() for _ in range(3)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky with a web page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


def visit(lab: Lab, web: Node) -> None:
    for _ in range(CONNECTIONS):
        fetch_plain(lab.client, web.v4)


@pytest.mark.skipif(not HAS_TCX, reason="this kernel has no TCX")
@pytest.mark.parametrize("attach", ["auto", "clsact"])
def test_tcx_programs_before_and_after_ours(
    lab: Lab, web: Node, bystanders: list[Bystander], attach: str
) -> None:
    first, early, last = bystanders
    early.link(lab.host, "ingress", first=True)
    agent = agent_with({"attach": attach}, lab)
    first.link(lab.host, "ingress", first=True)
    last.link(lab.host, "ingress", first=False)
    order = tcx(lab.host)["ingress"]
    ours = [program for program in order if program not in {one.id for one in bystanders}]
    if attach == "auto":
        assert order == [first.id, *ours, early.id, last.id]
    assert len(ours) == (1 if attach == "auto" else 0)
    visit(lab, web)
    assert agent.stop() == 0
    sums = assert_nothing_lost(agent)
    assert sums["handshakes"] == CONNECTIONS
    # All see the same frames. One that was attached earlier has also seen those from before. The
    # counts may grow between two reads, so the least one is read first.
    assert CONNECTIONS * 4 <= last.seen <= first.seen <= early.seen
    assert tcx(lab.host)["ingress"] == [first.id, early.id, last.id]
    before = last.seen
    visit(lab, web)
    assert last.seen - before >= CONNECTIONS * 4


@pytest.mark.parametrize(
    "attach",
    [
        pytest.param("auto", marks=pytest.mark.skipif(not HAS_TCX, reason="no TCX here")),
        "clsact",
    ],
)
def test_clsact_filters_before_and_after_ours(
    lab: Lab, web: Node, bystanders: list[Bystander], attach: str
) -> None:
    """One filter has a higher priority than ours, one the same, one a lower priority."""
    before, same, after = bystanders
    before.filter(lab.host, 1, 1)
    same.filter(lab.host, 49_152, 1)
    agent = agent_with({"attach": attach}, lab)
    after.filter(lab.host, 60_000, 1)
    visit(lab, web)
    during = filters(lab)["ingress"]
    assert during.count("bystander") == 3
    assert during.count("deckwire_ingress") == (1 if attach == "clsact" else 0)
    assert agent.stop() == 0
    sums = assert_nothing_lost(agent)
    assert sums["handshakes"] == CONNECTIONS
    assert CONNECTIONS * 4 <= after.seen <= same.seen <= before.seen
    left = filters(lab)
    assert left["ingress"].count("bystander") == 3
    assert "deckwire" not in left["ingress"] + left["egress"]
    qdiscs = lab.run(lab.host, ["tc", "qdisc", "show", "dev", PARENT]).stdout
    assert qdiscs.count("clsact") == 1
    visit(lab, web)
    assert CONNECTIONS * 8 <= same.seen <= before.seen
