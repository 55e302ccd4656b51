"""Other people's programs on the same interface: they see every frame, in their order, and stay."""

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
    """A decky with a page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


def visit(lab: Lab, web: Node) -> None:
    for _ in range(CONNECTIONS):
        fetch_plain(lab.client, web.v4)


@pytest.mark.skipif(not HAS_TCX, reason="this kernel has no TCX")
@pytest.mark.parametrize("way", ["auto", "clsact"])
def test_tcx_programs_before_and_behind_ours(
    lab: Lab, web: Node, bystanders: list[Bystander], way: str
) -> None:
    first, early, last = bystanders
    early.link(lab.host, "ingress", first=True)
    agent = agent_with({"attach": way}, lab)
    first.link(lab.host, "ingress", first=True)
    last.link(lab.host, "ingress", first=False)
    order = tcx(lab.host)["ingress"]
    ours = [program for program in order if program not in {one.id for one in bystanders}]
    if way == "auto":
        assert order == [first.id, *ours, early.id, last.id]
    assert len(ours) == (1 if way == "auto" else 0)
    visit(lab, web)
    assert agent.stop() == 0
    sums = assert_nothing_lost(agent)
    assert sums["handshakes"] == CONNECTIONS
    # All see the same frames: one was there before the agent, the others came after it.
    assert first.seen <= early.seen
    assert first.seen == last.seen >= CONNECTIONS * 4
    assert tcx(lab.host)["ingress"] == [first.id, early.id, last.id]
    before = last.seen
    visit(lab, web)
    assert last.seen - before >= CONNECTIONS * 4


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("auto", marks=pytest.mark.skipif(not HAS_TCX, reason="no TCX here")),
        "clsact",
    ],
)
def test_clsact_filters_before_and_behind_ours(
    lab: Lab, web: Node, bystanders: list[Bystander], way: str
) -> None:
    """Of a higher priority than ours, of the same with another handle, and of a lower one."""
    before, beside, behind = bystanders
    before.filter(lab.host, 1, 1)
    beside.filter(lab.host, 49_152, 1)
    agent = agent_with({"attach": way}, lab)
    behind.filter(lab.host, 60_000, 1)
    visit(lab, web)
    during = filters(lab)["ingress"]
    assert during.count("bystander") == 3
    assert during.count("deckwire_ingress") == (1 if way == "clsact" else 0)
    assert agent.stop() == 0
    sums = assert_nothing_lost(agent)
    assert sums["handshakes"] == CONNECTIONS
    assert before.seen == beside.seen >= behind.seen >= CONNECTIONS * 4
    left = filters(lab)
    assert left["ingress"].count("bystander") == 3
    assert "deckwire" not in left["ingress"] + left["egress"]
    qdiscs = lab.run(lab.host, ["tc", "qdisc", "show", "dev", PARENT]).stdout
    assert qdiscs.count("clsact") == 1
    visit(lab, web)
    assert before.seen == beside.seen >= CONNECTIONS * 8
